"""Follow the weights of one connection: what the worker finds in its cache, and what has to be sent.

The engine asks for a tensor of more than 10 MiB by its hash first (SET_TENSOR_HASH) and sends it when the worker lacks
it. What it sets after the first graph are inputs, no weights. No I/O.
"""

import struct
from collections.abc import Callable

from rpc_wrapper.link.meter import Meter
from rpc_wrapper.rpc.commands import TENSOR_BYTES

SET_TENSOR_OVERHEAD = TENSOR_BYTES + 1 + 8  # rpc_tensor, cache flag, offset

_NE_NB = struct.Struct("<4I4I")  # of rpc_tensor, after id, type and buffer
_NE_NB_OFFSET = 20
_OFFSET_HASH = struct.Struct("<QQ")  # behind it in a SET_TENSOR_HASH

OnHash = Callable[[int, int], object]


class Weights:
    """Count into a meter; ``on_hash`` hears the name and the size of a whole tensor before the worker looks for it."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._has_computed = False
        self._missed = False  # the worker lacks the tensor that comes next
        self.on_hash: OnHash | None = None

    def asked(self, hash_request: bytes) -> int:
        """Take a SET_TENSOR_HASH; return the size of its tensor."""
        size_bytes = tensor_bytes(hash_request)
        offset, digest = _OFFSET_HASH.unpack_from(hash_request, TENSOR_BYTES)
        if self.on_hash is not None and offset == 0:  # of a part of a tensor nobody says how long it is
            self.on_hash(digest, size_bytes)
        return size_bytes

    def answered(self, size_bytes: int, *, is_found: bool) -> None:
        """Take the answer to it."""
        if is_found:
            self._meter.found(size_bytes)
        else:
            self._missed = True

    def sent(self, message_bytes: int) -> None:
        """Take the size of a SET_TENSOR."""
        if not self._has_computed:  # later on, what is set are a graph's inputs
            self._meter.pushed(max(message_bytes - SET_TENSOR_OVERHEAD, 0), is_cacheable=self._missed)
        self._missed = False

    def are_complete(self) -> None:
        """Take note of a graph: what follows are inputs."""
        self._has_computed = True


def tensor_bytes(hash_request: bytes) -> int:
    """Return how many bytes a SET_TENSOR_HASH stands for: a weight is contiguous, so the last stride spans it."""
    *_, rows, _, _, _, stride = _NE_NB.unpack_from(hash_request, _NE_NB_OFFSET)
    return int(rows) * int(stride)

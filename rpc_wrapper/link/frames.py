"""Cut the two directions of a ggml RPC connection into frames, without keeping their payloads.

A request is ``u8 command | u64 size | payload``, a reply ``u64 size | payload``, little-endian and packed
(``send_rpc_cmd`` and ``send_msg`` in llama.cpp's ggml-rpc.cpp). A reply carries no command: whoever owns the reader
knows which request it answers. Payloads run through as slices of the bytes that came in. Only the few small messages
that somebody must read or rewrite are *held*, whole, up to :data:`HOLD_LIMIT` bytes.

The engine writes a head and its payload as separate packets. A head is kept until its payload begins, so that both
leave together.

What a stream can be wrong about is a value, :class:`Malformed`, and the last thing a reader ever says.
"""

from collections.abc import Callable
from dataclasses import dataclass

HOLD_LIMIT = 512  # the largest held message, SET_TENSOR_HASH, has 312 bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose head has been read.

    A held frame has its ``payload``, and its bytes are not passed on: the owner decides what goes in their place.
    The bytes of any other frame, head included, are pieces of their own.
    """

    command: int
    size: int
    payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class Malformed:
    """Why the stream is not ggml RPC: one clause, no full stop."""

    reason: str


@dataclass(frozen=True, slots=True)
class Head:
    """What one head says: which command, how many bytes follow, and whether to hold them."""

    command: int
    size: int
    hold: bool = False


Piece = Frame | Malformed | bytes | memoryview
ReadHead = Callable[[bytes], Head | Malformed]


class FrameReader:
    """Read one direction of one connection; ``read_head`` is asked once per frame, in order."""

    def __init__(self, head_size: int, read_head: ReadHead) -> None:
        self._head_size = head_size
        self._read_head = read_head
        self._head = bytearray()  # a head that is not complete, or whose payload has not begun
        self._left = 0  # bytes of the current payload still to come
        self._holding: Head | None = None
        self._held = bytearray()
        self._broken = False
        self._data: bytes | memoryview = b""  # the chunk in hand, and from where on it has not been given out
        self._run = 0
        self._pieces: list[Piece] = []

    @property
    def held_bytes(self) -> int:
        """Return how many bytes are kept back: at most a head and :data:`HOLD_LIMIT`."""
        return len(self._head) + len(self._held)

    @property
    def is_between_frames(self) -> bool:
        """Tell whether the stream may end here without cutting a frame in two."""
        return not (self._left or self._head or self._broken)

    def feed(self, data: bytes | memoryview) -> list[Piece]:
        """Return the pieces that ``data`` completes, in order; nothing after a :class:`Malformed`."""
        self._data, self._run, self._pieces = data, 0, []
        position, end = 0, len(data)
        while position < end and not self._broken:
            position = self._payload(position) if self._left else self._open(position)
        self._give_out(position)
        self._data = b""
        return self._pieces

    def _open(self, start: int) -> int:
        """Read a head, or the part of it that is there; return where it ends."""
        stop = start + self._head_size - len(self._head)
        if stop > len(self._data):
            self._head += memoryview(self._data)[start:]
            self._cut(start, len(self._data))
            return len(self._data)
        is_whole = not self._head
        raw = bytes(memoryview(self._data)[start:stop])
        head = self._read_head(raw if is_whole else bytes(self._head) + raw)
        if isinstance(head, Malformed) or head.hold:
            self._cut(start, stop)
            self._hold(head)
            return stop
        self._pieces.append(Frame(head.command, head.size))
        self._left = head.size
        if not is_whole or (self._left and stop == len(self._data)):  # else it stays in the run
            self._keep_head(start, stop, raw)
        return stop

    def _keep_head(self, start: int, stop: int, raw: bytes) -> None:
        self._cut(start, stop)
        self._head += raw
        if stop < len(self._data) or not self._left:
            self._give_head()

    def _payload(self, start: int) -> int:
        stop = min(start + self._left, len(self._data))
        self._left -= stop - start
        if self._holding is None:
            self._give_head()
            return stop
        self._held += memoryview(self._data)[start:stop]
        self._run = stop
        if not self._left:
            self._release()
        return stop

    def _hold(self, head: Head | Malformed) -> None:
        self._head.clear()
        if isinstance(head, Malformed) or head.size > HOLD_LIMIT:
            self._break(head)
            return
        self._holding, self._left = head, head.size
        if not head.size:
            self._release()

    def _release(self) -> None:
        assert self._holding is not None
        self._pieces.append(Frame(self._holding.command, self._holding.size, bytes(self._held)))
        self._holding = None
        self._held.clear()

    def _break(self, head: Head | Malformed) -> None:
        self._broken = True
        if isinstance(head, Head):
            head = Malformed(f"a message of command {head.command} claims {head.size} bytes")
        self._pieces.append(head)

    def _cut(self, start: int, stop: int) -> None:
        """Give out what runs up to ``start`` and take ``start..stop`` out of the run."""
        self._give_out(start)
        self._run = stop

    def _give_head(self) -> None:
        if self._head:
            self._pieces.append(bytes(self._head))
            self._head.clear()

    def _give_out(self, stop: int) -> None:
        if self._broken or stop <= self._run:
            return
        whole = self._run == 0 and stop == len(self._data)
        self._pieces.append(self._data if whole else memoryview(self._data)[self._run : stop])
        self._run = stop

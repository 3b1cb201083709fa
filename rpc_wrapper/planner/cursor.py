"""Read a GGUF's primitive values one after the other, from a file that comes from a stranger.

Every count is checked against the bytes that are left before anything is allocated.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from gguf.constants import GGUFValueType

from rpc_wrapper.errors import GGUFError

MAX_NAME_BYTES = 65_535  # the specification's limit for a key
MAX_STRING_BYTES = 4 * 1024 * 1024  # chat templates are the longest strings worth keeping
CHUNK_BYTES = 256 * 1024

_FORMATS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.FLOAT64: "<d",
    GGUFValueType.BOOL: "<?",
}
SCALARS = {kind: struct.Struct(text) for kind, text in _FORMATS.items()}
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class SkippedString:
    """A string too long to be worth keeping."""

    size_bytes: int


class Cursor:
    """A position in a stream, read through one chunk of memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size = stream.seek(0, 2)
        self._chunk = b""
        self._chunk_start = 0
        self._index = 0

    @property
    def position(self) -> int:
        """Return the offset of the next byte from the start of the file."""
        return self._chunk_start + self._index

    def require(self, count: int, least_bytes: int, what: str, most: int | None = None) -> None:
        """Refuse a count of items that cannot be true, before reading or allocating any."""
        if most is not None and count > most:
            raise GGUFError(f"the file claims {count} {what}, more than the {most} that make sense: it is damaged")
        left = self.size - self.position
        if count * least_bytes > left:
            raise GGUFError(f"the file claims {count} {what} but only {left} bytes follow: it is truncated or damaged")

    def take(self, n_bytes: int) -> bytes:
        """Return the next bytes, exactly that many."""
        end = self._index + n_bytes
        if end > len(self._chunk):
            self._load(self.position, n_bytes)
            end = n_bytes
        start, self._index = self._index, end
        return self._chunk[start:end]

    def skip(self, n_bytes: int) -> None:
        """Step over bytes without keeping them."""
        target = self.position + n_bytes
        if target > self.size:
            self._fail(n_bytes)
        if self._index + n_bytes <= len(self._chunk):
            self._index += n_bytes
        else:
            self._chunk, self._chunk_start, self._index = b"", target, 0

    def skip_strings(self, count: int) -> None:
        """Step over strings: each is a length and that many bytes."""
        for _ in range(count):
            if self._index + 8 > len(self._chunk):
                self._load(self.position, 8)
            (length,) = _U64.unpack_from(self._chunk, self._index)
            self._index += 8
            if self._index + length <= len(self._chunk):
                self._index += length
            else:
                self.skip(length)

    def u32(self) -> int:
        """Return an unsigned 32-bit number."""
        return int(_U32.unpack(self.take(4))[0])

    def u64(self) -> int:
        """Return an unsigned 64-bit number."""
        return int(_U64.unpack(self.take(8))[0])

    def scalar(self, kind: GGUFValueType) -> int | float | bool:
        """Return one number or truth value."""
        form = SCALARS[kind]
        value: int | float | bool = form.unpack(self.take(form.size))[0]
        return value

    def string(self, key: str) -> str | SkippedString:
        """Return a string value; an overlong one is only measured."""
        length = self.u64()
        self.require(length, 1, f"characters in {key!r}")
        if length > MAX_STRING_BYTES:
            self.skip(length)
            return SkippedString(length)
        return self.take(length).decode("utf-8", "replace")

    def name(self, what: str) -> str:
        """Return a key or a tensor's name."""
        length = self.u64()
        if length > MAX_NAME_BYTES:
            raise GGUFError(f"{what} is {length} bytes long, {MAX_NAME_BYTES} at most are allowed: the file is damaged")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise GGUFError(f"{what} at byte {self.position} is not UTF-8: the file is damaged") from None

    def _load(self, start: int, n_bytes: int) -> None:
        if start + n_bytes > self.size:
            self._fail(n_bytes)
        self._stream.seek(start)
        self._chunk, self._chunk_start, self._index = self._stream.read(max(CHUNK_BYTES, n_bytes)), start, 0
        if len(self._chunk) < n_bytes:
            self._fail(n_bytes)

    def _fail(self, n_bytes: int) -> None:
        raise GGUFError(
            f"the file is truncated: {n_bytes} bytes are needed at byte {self.position}, {self.size} is its whole size"
        )

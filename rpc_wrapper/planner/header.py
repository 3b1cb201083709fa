"""Read what a GGUF says about itself: its metadata and its list of tensors, never the tensors' data.

The file comes from a stranger, so every count is checked against the bytes that are left before anything is
allocated, and long arrays (a vocabulary has 30,000 to 250,000 strings) are stepped over, not built. Layout: ggml's
GGUF specification.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from rpc_wrapper.errors import GGUFError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS = 100_000
MAX_TENSORS = 1_000_000
MAX_NAME_BYTES = 65_535  # the specification's limit for a key
MAX_STRING_BYTES = 4 * 1024 * 1024  # chat templates are the longest strings worth keeping
MAX_ARRAY_ITEMS = 4096  # per-layer numbers are kept, vocabularies are only counted
MIN_KEY_BYTES = 8 + 4 + 1  # an empty name, a type, one byte of value
MIN_TENSOR_BYTES = 8 + 4 + 4 + 8  # an empty name, no dimension, a type, an offset
MAX_DIMS = 4
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
_SCALARS = {kind: struct.Struct(text) for kind, text in _FORMATS.items()}
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class SkippedArray:
    """An array that was stepped over: its items' type and how many there are."""

    item_type: str
    length: int


@dataclass(frozen=True, slots=True)
class SkippedString:
    """A string too long to be worth keeping."""

    size_bytes: int


Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...] | SkippedArray | SkippedString


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: ``shape`` as ggml counts it (fastest dimension first), ``offset`` from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Header:
    """All that precedes the tensors' data."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int

    @cached_property
    def by_name(self) -> Mapping[str, TensorInfo]:
        """Return the tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}


def read_header(stream: BinaryIO) -> Header:
    """Read one GGUF file's header from a seekable stream; raise GGUFError naming what is wrong and where."""
    cursor = _Cursor(stream)
    version, n_tensors, n_keys = _read_preamble(cursor)
    metadata = _read_metadata(cursor, n_keys)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise GGUFError(f"general.alignment is {alignment!r}, a power of two is needed: fetch the model again")
    tensors = _read_tensors(cursor, n_tensors, alignment)
    data_offset = -(-cursor.position // alignment) * alignment
    _check_data(tensors, data_offset, cursor.size)
    return Header(version, metadata, tensors, data_offset)


def _read_preamble(cursor: "_Cursor") -> tuple[int, int, int]:
    magic = cursor.take(4)
    if magic != MAGIC:
        raise GGUFError(f"this is no GGUF: it begins with {magic!r}, not with {MAGIC!r}; give a .gguf file")
    version = cursor.u32()
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        hint = "it is big-endian" if swapped in VERSIONS else "convert the model again with a recent llama.cpp"
        raise GGUFError(f"GGUF version {version} is not supported (versions 2 and 3 are): {hint}")
    n_tensors, n_keys = cursor.u64(), cursor.u64()
    cursor.require(n_tensors, MIN_TENSOR_BYTES, "tensors", MAX_TENSORS)
    cursor.require(n_keys, MIN_KEY_BYTES, "metadata entries", MAX_KEYS)
    return version, n_tensors, n_keys


def _read_metadata(cursor: "_Cursor", n_keys: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(n_keys):
        key = cursor.name("a metadata key")
        if key in metadata:
            raise GGUFError(f"the metadata key {key!r} appears twice: the file is damaged, fetch it again")
        metadata[key] = _read_value(cursor, key)
    return metadata


def _read_value(cursor: "_Cursor", key: str) -> Value:
    kind = _value_type(cursor.u32(), key)
    if kind is GGUFValueType.STRING:
        return cursor.string(key)
    if kind is GGUFValueType.ARRAY:
        return _read_array(cursor, key)
    return cursor.scalar(kind)


def _read_array(cursor: "_Cursor", key: str) -> Value:
    kind = _value_type(cursor.u32(), key)
    length = cursor.u64()
    if kind is GGUFValueType.ARRAY:
        raise GGUFError(f"{key!r} is an array of arrays, which llama.cpp does not load: convert the model again")
    if kind is GGUFValueType.STRING:
        cursor.require(length, 8, f"strings in {key!r}")
        cursor.skip_strings(length)
        return SkippedArray("STRING", length)
    item = _SCALARS[kind]
    cursor.require(length, item.size, f"items in {key!r}")
    if length > MAX_ARRAY_ITEMS:
        cursor.skip(length * item.size)
        return SkippedArray(kind.name, length)
    return tuple(value for (value,) in item.iter_unpack(cursor.take(length * item.size)))


def _value_type(number: int, key: str) -> GGUFValueType:
    try:
        return GGUFValueType(number)
    except ValueError:
        raise GGUFError(f"{key!r} has the unknown value type {number}: the file is damaged, fetch it again") from None


def _read_tensors(cursor: "_Cursor", n_tensors: int, alignment: int) -> tuple[TensorInfo, ...]:
    tensors = []
    names: set[str] = set()
    for _ in range(n_tensors):
        tensor = _read_tensor(cursor)
        if tensor.name in names:
            raise GGUFError(f"the tensor {tensor.name!r} appears twice: the file is damaged, fetch it again")
        if tensor.offset % alignment:
            raise GGUFError(f"tensor {tensor.name!r} lies at {tensor.offset}, not at a multiple of {alignment}")
        names.add(tensor.name)
        tensors.append(tensor)
    return tuple(tensors)


def _read_tensor(cursor: "_Cursor") -> TensorInfo:
    name = cursor.name("a tensor's name")
    n_dims = cursor.u32()
    if not 1 <= n_dims <= MAX_DIMS:
        raise GGUFError(f"tensor {name!r} has {n_dims} dimensions, 1 to {MAX_DIMS} are possible")
    shape = tuple(cursor.u64() for _ in range(n_dims))
    number = cursor.u32()
    offset = cursor.u64()
    try:
        kind = GGMLQuantizationType(number)
        block_items, block_bytes = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise GGUFError(f"tensor {name!r} has the unknown type {number}: a newer rpc-wrapper is needed") from None
    items = 1
    for length in shape:
        items *= length
    if not 0 < items < 2**63 or shape[0] % block_items:
        raise GGUFError(f"tensor {name!r} has the impossible shape {shape} for type {kind.name}")
    return TensorInfo(name, shape, kind, offset, items // block_items * block_bytes)


def _check_data(tensors: tuple[TensorInfo, ...], data_offset: int, size: int) -> None:
    """Refuse a file that ends before its last tensor does: an unfinished download."""
    if not tensors:
        return
    last = max(tensors, key=lambda tensor: tensor.offset + tensor.size_bytes)
    end = data_offset + last.offset + last.size_bytes
    if end > size:
        raise GGUFError(
            f"the file is truncated: {last.name!r} ends at byte {end} but the file has {size}; "
            f"fetch the missing {end - size} bytes"
        )


class _Cursor:
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
        form = _SCALARS[kind]
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

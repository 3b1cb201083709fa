"""Read what a GGUF says about itself: its metadata and its list of tensors, never the tensors' data.

The file comes from a stranger, so every count is checked against the bytes that are left before anything is
allocated, and long arrays (a vocabulary has 30,000 to 250,000 strings) are stepped over, not built. Layout: ggml's
GGUF specification.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from rpc_wrapper.errors import GGUFError
from rpc_wrapper.planner.cursor import SCALARS, Cursor, SkippedString

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS = 100_000
MAX_TENSORS = 1_000_000
MAX_ARRAY_ITEMS = 4096  # per-layer numbers are kept, vocabularies are only counted
MIN_KEY_BYTES = 8 + 4 + 1  # an empty name, a type, one byte of value
MIN_TENSOR_BYTES = 8 + 4 + 4 + 8  # an empty name, no dimension, a type, an offset
MAX_DIMS = 4


@dataclass(frozen=True, slots=True)
class SkippedArray:
    """An array that was stepped over: its items' type and how many there are."""

    item_type: str
    length: int


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
    cursor = Cursor(stream)
    version, n_tensors, n_keys = _read_preamble(cursor)
    metadata = _read_metadata(cursor, n_keys)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise GGUFError(f"general.alignment is {alignment!r}, a power of two is needed: fetch the model again")
    tensors = _read_tensors(cursor, n_tensors, alignment)
    data_offset = -(-cursor.position // alignment) * alignment
    _check_data(tensors, data_offset, cursor.size)
    return Header(version, metadata, tensors, data_offset)


def _read_preamble(cursor: Cursor) -> tuple[int, int, int]:
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


def _read_metadata(cursor: Cursor, n_keys: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(n_keys):
        key = cursor.name("a metadata key")
        if key in metadata:
            raise GGUFError(f"the metadata key {key!r} appears twice: the file is damaged, fetch it again")
        metadata[key] = _read_value(cursor, key)
    return metadata


def _read_value(cursor: Cursor, key: str) -> Value:
    kind = _value_type(cursor.u32(), key)
    if kind is GGUFValueType.STRING:
        return cursor.string(key)
    if kind is GGUFValueType.ARRAY:
        return _read_array(cursor, key)
    return cursor.scalar(kind)


def _read_array(cursor: Cursor, key: str) -> Value:
    kind = _value_type(cursor.u32(), key)
    length = cursor.u64()
    if kind is GGUFValueType.ARRAY:
        raise GGUFError(f"{key!r} is an array of arrays, which llama.cpp does not load: convert the model again")
    if kind is GGUFValueType.STRING:
        cursor.require(length, 8, f"strings in {key!r}")
        cursor.skip_strings(length)
        return SkippedArray("STRING", length)
    item = SCALARS[kind]
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


def _read_tensors(cursor: Cursor, n_tensors: int, alignment: int) -> tuple[TensorInfo, ...]:
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


def _read_tensor(cursor: Cursor) -> TensorInfo:
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

"""The header reader: equal to the gguf library on good files, a clear and quick refusal of bad ones."""

import io
import struct
import tracemalloc
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rpc_wrapper.errors import GGUFError
from rpc_wrapper.planner.header import MAX_ARRAY_ITEMS, Header, SkippedArray, read_header
from tests.planner.models import Shape, write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model.gguf", Shape(n_layer=2))


@pytest.fixture(scope="session")
def content(model: Path) -> bytes:
    return model.read_bytes()


def read(data: bytes) -> Header:
    return read_header(io.BytesIO(data))


SHAPES = [
    Shape(),
    Shape(n_expert=4, n_expert_used=2),
    Shape(is_tied=True, type=GGMLQuantizationType.F16),
    Shape(type=GGMLQuantizationType.Q4_0),
    Shape(n_vocab=5000, type=GGMLQuantizationType.F32),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_agrees_with_the_library(tmp_path: Path, shape: Shape) -> None:
    path = write_model(tmp_path / "model.gguf", shape)
    library = GGUFReader(path)
    with path.open("rb") as stream:
        header = read_header(stream)
    assert header.data_offset == library.data_offset
    ours = [(t.name, t.shape, t.type, t.size_bytes, header.data_offset + t.offset) for t in header.tensors]
    theirs = [
        (t.name, tuple(int(d) for d in t.shape), t.tensor_type, t.n_bytes, t.data_offset) for t in library.tensors
    ]
    assert ours == theirs
    fields = {name: field for name, field in library.fields.items() if not name.startswith("GGUF.")}
    assert list(header.metadata) == list(fields)
    for name, field in fields.items():
        value = header.metadata[name]
        if isinstance(value, SkippedArray):
            assert value.length == len(field.data)
        else:
            expected = field.contents()
            assert value == (tuple(expected) if isinstance(expected, list) else expected)


def test_numeric_arrays_are_kept_until_they_are_long(tmp_path: Path) -> None:
    path = tmp_path / "arrays.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_array("short", [1, 2, 3])
    writer.add_array("long", list(range(MAX_ARRAY_ITEMS + 1)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    metadata = read(path.read_bytes()).metadata
    assert metadata["short"] == (1, 2, 3)
    assert metadata["long"] == SkippedArray("INT32", MAX_ARRAY_ITEMS + 1)


def test_every_truncation_is_refused(content: bytes) -> None:
    header = read(content)
    end = header.data_offset + max(tensor.offset + tensor.size_bytes for tensor in header.tensors)
    boundaries = [*range(0, 4096), *range(4096, header.data_offset, 97), header.data_offset, end - 1]
    for length in boundaries:
        with pytest.raises(GGUFError):
            read(content[:length])
    assert read(content[:end]) == header


HUGE = [10**9, 2**40, 2**63, 2**64 - 1]


@pytest.mark.parametrize("count", HUGE)
@pytest.mark.parametrize("field", ["tensors", "keys"])
def test_absurd_counts_are_refused_at_once(content: bytes, field: str, count: int) -> None:
    at = 8 if field == "tensors" else 16
    damaged = content[:at] + struct.pack("<Q", count) + content[at + 8 :]
    tracemalloc.start()
    try:
        with pytest.raises(GGUFError, match=str(count)):
            read(damaged)
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()


def preamble(n_tensors: int, n_keys: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dims + struct.pack("<IQ", kind, offset)


ARRAY, STRING, UINT32 = int(GGUFValueType.ARRAY), int(GGUFValueType.STRING), int(GGUFValueType.UINT32)
PADDING = bytes(4096)
BAD = {
    "no magic": (b"GGML" + PADDING, "no GGUF"),
    "empty": (b"", "truncated"),
    "version 1": (preamble(0, 0, 1), "version 1 is not supported"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "unknown value type": (preamble(0, 1) + key(b"k", 99, PADDING), "unknown value type 99"),
    "array of arrays": (
        preamble(0, 1) + key(b"k", ARRAY, struct.pack("<IQ", ARRAY, 1) + PADDING),
        "array of arrays",
    ),
    "long array": (preamble(0, 1) + key(b"k", ARRAY, struct.pack("<IQ", UINT32, 10**9) + PADDING), "1000000000 items"),
    "many strings": (preamble(0, 1) + key(b"k", ARRAY, struct.pack("<IQ", STRING, 10**9) + PADDING), "strings"),
    "long string": (preamble(0, 1) + key(b"k", STRING, struct.pack("<Q", 2**62) + PADDING), "truncated or damaged"),
    "string past the end": (
        preamble(0, 1) + key(b"k", ARRAY, struct.pack("<IQ", STRING, 2) + struct.pack("<Q", 2**60) + PADDING),
        "truncated",
    ),
    "long name": (preamble(0, 1) + struct.pack("<Q", 70_000) + bytes(80_000), "70000 bytes long"),
    "name not UTF-8": (preamble(0, 1) + key(b"\xff\xfe", UINT32, PADDING), "not UTF-8"),
    "key twice": (preamble(0, 2) + 2 * key(b"k", UINT32, bytes(4)) + PADDING, "twice"),
    "no dimension": (preamble(1, 0) + tensor(b"t", ()) + PADDING, "0 dimensions"),
    "five dimensions": (preamble(1, 0) + tensor(b"t", (1,) * 5) + PADDING, "5 dimensions"),
    "empty dimension": (preamble(1, 0) + tensor(b"t", (0, 4)) + PADDING, "impossible shape"),
    "overflowing shape": (preamble(1, 0) + tensor(b"t", (2**62, 2**62)) + PADDING, "impossible shape"),
    "half a quantisation block": (preamble(1, 0) + tensor(b"t", (33,), kind=2) + PADDING, "impossible shape"),
    "unknown tensor type": (preamble(1, 0) + tensor(b"t", (1,), kind=999) + PADDING, "unknown type 999"),
    "tensor twice": (preamble(2, 0) + 2 * tensor(b"t", (1,)) + PADDING, "twice"),
    "unaligned tensor": (preamble(1, 0) + tensor(b"t", (1,), offset=3) + PADDING, "multiple of 32"),
    "tensor past the end": (preamble(1, 0) + tensor(b"t", (2**20,)) + PADDING, "truncated: 't' ends"),
    "alignment 0": (preamble(0, 1) + key(b"general.alignment", UINT32, bytes(4)), "general.alignment is 0"),
    "alignment 48": (
        preamble(0, 1) + key(b"general.alignment", UINT32, struct.pack("<I", 48)),
        "power of two",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str) -> None:
    data, message = BAD[name]
    with pytest.raises(GGUFError, match=message):
        read(data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 8000), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused_but_never_crashes(content: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(content)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    try:
        header = read(bytes(damaged))
    except GGUFError:
        return
    assert header.data_offset <= len(damaged) + 32


def test_a_vocabulary_is_stepped_over_without_being_built(tmp_path: Path) -> None:
    n_tokens = 150_000
    strings = b"".join(text(b"token%d" % number) for number in range(n_tokens))
    data = preamble(0, 1) + key(b"tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, n_tokens) + strings)
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with path.open("rb") as stream:
            header = read_header(stream)
        assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert header.metadata["tokenizer.ggml.tokens"] == SkippedArray("STRING", n_tokens)

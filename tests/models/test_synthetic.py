"""Synthetic models: the right tensors of the right size, and numbers that compute."""

import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, dequantize

from rpc_wrapper.synthetic.shapes import SHAPES, Shape
from rpc_wrapper.synthetic.tensors import Fill, TensorSpec, tensors
from rpc_wrapper.synthetic.weights import PATTERN_BLOCKS, QUANTS, SPREAD, pattern, tensor_bytes, tensor_type
from rpc_wrapper.synthetic.writer import vocabulary, write_model

MAKE_MODEL = Path(__file__).parent.parent.parent / "scripts" / "make-model"
TINY = replace(SHAPES["demo-like"], blocks=2, vocab=512)


def small(name: str) -> Shape:
    """Return a shape with as few blocks and pieces as it can have."""
    return replace(SHAPES[name], blocks=2, vocab=512)


def parameters(name: str) -> int:
    return sum(prod(spec.dims) for spec in tensors(SHAPES[name]))


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("tinyllama-1.1b", 1_100_048_384),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824),
        ("llama-2-7b", 6_738_415_616),
        ("vicuna-13b", 13_015_864_320),
    ],
)
def test_parameter_counts_are_the_real_models(name: str, published: int) -> None:
    factors = SHAPES[name].head_width // 2 if SHAPES[name].rope_factors else 0
    assert parameters(name) - factors == published


@pytest.mark.parametrize("quant", QUANTS)
def test_patterns_have_the_promised_spread(quant: str) -> None:
    kind = QUANTS[quant][0]
    values = dequantize(pattern(kind, np.random.default_rng(0)).reshape(PATTERN_BLOCKS, -1), kind)
    assert np.isfinite(values).all()
    assert abs(values.mean()) < SPREAD / 5  # nibbles less 8 are -8..7: half a step below zero
    assert SPREAD / 2 < values.std() < SPREAD * 2


@pytest.mark.parametrize("name", SHAPES)
def test_file_holds_exactly_the_tensors_of_the_shape(name: str, tmp_path: Path) -> None:
    shape, path = small(name), tmp_path / "m.gguf"
    write_model(path, shape, "q8_0")
    reader = GGUFReader(path)
    found = {tensor.name: (tuple(int(n) for n in tensor.shape), tensor.n_bytes) for tensor in reader.tensors}
    kinds = {spec: tensor_type(spec, GGMLQuantizationType.Q8_0) for spec in tensors(shape)}
    assert found == {spec.name: (spec.dims[::-1], tensor_bytes(spec, kind)) for spec, kind in kinds.items()}
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == shape.vocab
    assert reader.fields["general.architecture"].contents() == shape.arch


def test_head_counts_differ_where_they_should(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_model(path, replace(SHAPES["deci-tiny"], vocab=512), "q4_0")
    assert GGUFReader(path).fields["deci.attention.head_count_kv"].contents() == [8, 4, 2, 8, 1, 2, 4, 8]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_model(tmp_path / name, TINY, "q4_0", seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_rows_that_are_no_whole_block_stay_exact() -> None:
    assert tensor_type(TensorSpec("x", (8, 33)), GGMLQuantizationType.Q4_0) is GGMLQuantizationType.F32
    assert tensor_type(TensorSpec("x", (8, 64), Fill.EXACT), GGMLQuantizationType.Q4_0) is GGMLQuantizationType.F32
    assert tensor_bytes(TensorSpec("x", (8, 64)), GGMLQuantizationType.Q4_0) == 8 * 2 * 18
    assert GGML_QUANT_SIZES[GGMLQuantizationType.Q4_0] == (32, 18)


@pytest.mark.parametrize("size", [512, 32000, 151936])
def test_vocabulary_is_full_and_without_twins(size: int) -> None:
    pieces = list(vocabulary(size))
    assert len(pieces) == len(set(pieces)) == size


def make_model(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(MAKE_MODEL), *arguments]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)


def test_list_names_every_shape() -> None:
    assert [line.split()[0] for line in make_model("--list").stdout.splitlines()] == list(SHAPES)


def test_program_writes_the_asked_size(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    done = make_model("--shape", "deci-tiny", "--layers", "10", "--vocab", "600", "--quant", "q8_0", "-o", str(path))
    assert done.returncode == 0, done.stderr
    fields = GGUFReader(path).fields
    assert fields["deci.feed_forward_length"].contents()[8:] == [1024, 1536]
    assert (fields["deci.block_count"].contents(), fields["deci.vocab_size"].contents()) == (10, 600)


@pytest.mark.parametrize("bad", [("--vocab", "10"), ("--layers", "0"), ("--quant", "q1"), ("--shape", "gpt-5")])
def test_program_refuses_nonsense(bad: tuple[str, str]) -> None:
    done = make_model(*bad)
    assert done.returncode == 2
    assert bad[1] in done.stderr
    assert "Traceback" not in done.stderr

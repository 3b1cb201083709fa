"""The profile: exact sums, and the rules of architectures that differ from llama's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType, GGUFReader

from rpc_wrapper.errors import GGUFError
from rpc_wrapper.planner.profile import ModelProfile, Tensor, make_profile, model_files, read_profile
from tests.planner.models import Shape, write_model


@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(n_layer=1),
        Shape(is_tied=True),
        Shape(n_expert=4, n_expert_used=2),
        Shape(type=GGMLQuantizationType.F16),
    ],
)
def test_the_parts_add_up_to_the_file_exactly(tmp_path: Path, shape: Shape) -> None:
    path = write_model(tmp_path / "m.gguf", shape)
    profile = read_profile(path)
    sizes = {tensor.name: int(tensor.n_bytes) for tensor in GGUFReader(path).tensors}
    for index, block in enumerate(profile.blocks):
        assert block.weights_bytes == sum(size for name, size in sizes.items() if name.startswith(f"blk.{index}."))
    embedding = sizes["token_embd.weight"]
    copied = embedding if shape.is_tied else 0
    parts = sum(block.weights_bytes for block in profile.blocks) + profile.embedding_bytes + profile.output_bytes
    assert parts - copied == profile.file_bytes == sum(sizes.values())
    assert profile.is_tied is shape.is_tied
    assert profile.embedding_bytes == embedding


def test_it_says_what_the_model_is(tmp_path: Path) -> None:
    profile = read_profile(write_model(tmp_path / "m.gguf", Shape()))
    assert (profile.architecture, profile.n_layer, profile.n_embd, profile.n_ff) == ("llama", 4, 64, 128)
    assert (profile.n_head, profile.n_head_kv) == ((4,) * 4, (2,) * 4)
    assert (profile.head_dim_k, profile.head_dim_v, profile.n_ctx_train) == (16, 16, 2048)
    assert (profile.quantisation, profile.file_type, profile.n_vocab) == ("Q8_0", "Q8_0", 300)
    assert (profile.tokenizer, profile.has_chat_template) == ("llama", False)
    assert profile.blocks[0].k_width == profile.blocks[0].v_width == 32
    assert profile.kv_bytes_per_token() == 4 * (32 + 32) * 2


def test_it_turns_into_json(tmp_path: Path) -> None:
    value = json.loads(json.dumps(read_profile(write_model(tmp_path / "m.gguf", Shape())).to_json()))
    assert value["n_layer"] == 4
    assert value["tensors"][0] == {
        "name": "token_embd.weight",
        "shape": [64, 300],
        "type": "Q8_0",
        "size_bytes": 300 * 64 // 32 * 34,
        "file": 0,
    }


def test_only_the_experts_in_use_are_read_per_token(tmp_path: Path) -> None:
    block = read_profile(write_model(tmp_path / "m.gguf", Shape(n_expert=4, n_expert_used=2))).blocks[0]
    experts = 3 * 4 * 64 * 128 // 32 * 34
    assert block.active_bytes == block.weights_bytes - experts // 2


def tensors(n_layer: int, *more: str) -> list[Tensor]:
    names = [f"blk.{index}.attn_norm.weight" for index in range(n_layer)]
    return [Tensor(name, (64,), "F32", 256) for name in (*names, "token_embd.weight", *more)]


def metadata(architecture: str, n_layer: int, **values: object) -> dict[str, Any]:
    given = {"block_count": n_layer, "embedding_length": 64, "attention.head_count": 4, **values}
    return {"general.architecture": architecture} | {f"{architecture}.{k}": v for k, v in given.items()}


def widths(profile: ModelProfile) -> list[tuple[int, int, int, bool]]:
    return [(block.k_width, block.v_width, block.state_width, block.is_windowed) for block in profile.blocks]


def test_heads_may_differ_per_layer() -> None:
    keys = metadata("llama", 3, **{"attention.head_count_kv": (1, 2, 4)})
    assert widths(make_profile(keys, tensors(3))) == [(16, 16, 0, False), (32, 32, 0, False), (64, 64, 0, False)]


def test_head_sizes_may_be_given() -> None:
    keys = metadata("llama", 1, **{"attention.key_length": 128, "attention.value_length": 96})
    assert widths(make_profile(keys, tensors(1))) == [(512, 384, 0, False)]


def test_a_latent_cache_keeps_no_values() -> None:
    given = {"attention.head_count_kv": 1, "attention.key_length": 576, "attention.key_length_mla": 192}
    assert widths(make_profile(metadata("deepseek2", 1, **given), tensors(1))) == [(576, 0, 0, False)]


def test_windows_come_from_the_file_or_from_the_architecture() -> None:
    given = {"attention.sliding_window": 512}
    listed = given | {"attention.sliding_window_pattern": (True, False)}
    assert [w for *_, w in widths(make_profile(metadata("step35", 2, **listed), tensors(2)))] == [True, False]
    gemma = make_profile(metadata("gemma3", 12, **given), tensors(12))
    assert [w for *_, w in widths(gemma)] == [True] * 5 + [False] + [True] * 5 + [False]
    unknown = make_profile(metadata("novel", 2, **given), tensors(2))
    assert [w for *_, w in widths(unknown)] == [False, False]


def test_recurrent_layers_keep_a_state_instead_of_a_cache() -> None:
    ssm = {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16, "ssm.group_count": 1}
    state = 3 * (128 + 2 * 16) + 16 * 128
    mamba = make_profile(metadata("mamba2", 1, **ssm), tensors(1))
    assert widths(mamba) == [(0, 0, state, False)]
    hybrid = make_profile(metadata("jamba", 2, **ssm, **{"attention.head_count_kv": (0, 2)}), tensors(2))
    assert widths(hybrid) == [(0, 0, state, False), (32, 32, 0, False)]
    both = make_profile(metadata("falcon-h1", 1, **ssm), tensors(1))
    assert widths(both) == [(64, 64, state, False)]
    fourth = make_profile(metadata("qwen3next", 4, **ssm), tensors(4))
    assert [state > 0 for _, _, state, _ in widths(fourth)] == [True, True, True, False]
    assert widths(fourth)[3] == (64, 64, 0, False)


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "zero layers": ({"block_count": 0}, 1, "0 blocks"),
    "too many layers": ({"block_count": 100_000}, 1, "100000 blocks"),
    "no layers": ({"block_count": None}, 1, "missing"),
    "layers of a wrong type": ({"block_count": "many"}, 1, "'many'"),
    "negative layers": ({"block_count": -4}, 1, "-4"),
    "a short list of heads": ({"attention.head_count_kv": (1,)}, 2, "1 entries for 2 blocks"),
    "a missing block": ({"block_count": 3}, 2, "block 2 of 3 has no tensors"),
    "a block too many": ({"block_count": 1}, 2, "past the last block"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str) -> None:
    values, n_tensors, message = BAD[name]
    with pytest.raises(GGUFError, match=message):
        make_profile(metadata("llama", n_tensors) | {f"llama.{k}": v for k, v in values.items()}, tensors(n_tensors))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="cannot be read"):
        read_profile(tmp_path / "none.gguf")
    with pytest.raises(GGUFError, match="cannot be read"):
        read_profile(tmp_path)


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path]:
    """A model, and the first of the files it is split into by the engine's own tool."""
    whole = write_model(tmp_path / "whole.gguf", Shape(n_layer=4))
    program = Path(sys.prefix).glob("lib/python3*/site-packages/llama_cpp/bin/llama-gguf-split")
    split = next(program, None)
    assert split is not None, "the engine is not installed: llama-gguf-split is missing"
    subprocess.run([split, "--split-max-tensors", "16", whole, tmp_path / "part"], check=True, capture_output=True)
    return whole, next(tmp_path.glob("part-00001-of-*.gguf"))


def test_split_files_are_one_model(parts: tuple[Path, Path]) -> None:
    whole, first = (read_profile(path) for path in parts)
    assert len(first.files) > 1
    assert first.blocks == whole.blocks
    assert (first.embedding_bytes, first.output_bytes) == (whole.embedding_bytes, whole.output_bytes)
    assert {tensor.file for tensor in first.tensors} == set(range(len(first.files)))


def test_a_missing_part_is_named(parts: tuple[Path, Path]) -> None:
    first = parts[1]
    second = model_files(first)[1]
    with pytest.raises(GGUFError, match="give the first part"):
        read_profile(second)
    second.unlink()
    with pytest.raises(GGUFError, match=second.name):
        read_profile(first)


def test_a_part_under_a_wrong_name_is_refused(parts: tuple[Path, Path]) -> None:
    first = parts[1]
    model_files(first)[1].write_bytes(first.read_bytes())
    with pytest.raises(GGUFError, match="says it is part 0"):
        read_profile(first)

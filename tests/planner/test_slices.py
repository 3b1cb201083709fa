"""What each device holds in split mode tensor: llama.cpp's cuts, and nothing lost between the devices."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.devices import MIB
from rpc_wrapper.errors import DoesNotFit, PlanError
from rpc_wrapper.planner import PlanOptions, Workload, make_plan
from rpc_wrapper.planner.memory import ComputeModel, layer_cache_bytes
from rpc_wrapper.planner.profile import Block, ModelProfile, Tensor
from rpc_wrapper.planner.slices import cut, device_bytes
from tests.planner.profiles import profile_of, remote

Q8_0 = 34 / 32  # bytes per element
TENSOR = Workload(ctx_size=512, split_mode="tensor")


@pytest.mark.parametrize(
    ("width", "grain", "shares", "rotation", "pieces"),
    [
        (1024, 256, (1, 1), 0, [512, 512]),
        (1024, 256, (1, 1, 1), 0, [256, 256, 512]),  # what is left of the grains goes to the last
        (1024, 256, (1, 1, 1), 1, [512, 256, 256]),  # and the last is another one in the next block
        (1024, 256, (1, 1, 1), 2, [256, 512, 256]),
        (1024, 256, (3, 1), 0, [768, 256]),
        (1024, 1024, (1, 1), 0, [0, 1024]),  # one grain: only the last has any
        (100, 1, (1, 2), 0, [33, 67]),
        (512, 128, (64,), 0, [512]),
    ],
)
def test_a_width_is_cut_in_whole_grains(
    width: int, grain: int, shares: tuple[int, ...], rotation: int, pieces: list[int]
) -> None:
    assert cut(width, grain, shares, rotation) == pieces


@given(
    width=st.integers(1, 1 << 20),
    grain=st.integers(1, 4096),
    shares=st.lists(st.integers(1, 64), min_size=1, max_size=15),
    rotation=st.integers(0, 14),
)
def test_no_element_is_lost_or_counted_twice(width: int, grain: int, shares: list[int], rotation: int) -> None:
    pieces = cut(width, grain, shares, rotation % len(shares))
    assert sum(pieces) == width
    assert min(pieces) >= 0


def tensor(name: str, *shape: int, kind: str = "Q8_0") -> Tensor:
    elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
    return Tensor(name, shape, kind, round(elements * (Q8_0 if kind == "Q8_0" else 4)))


def block(index: int, n_embd: int = 512, narrow: int = 128, n_ff: int = 1024) -> list[Tensor]:
    parts = {"attn_q": (n_embd, n_embd), "attn_k": (n_embd, narrow), "attn_v": (n_embd, narrow)}
    parts |= {"attn_output": (n_embd, n_embd), "ffn_up": (n_embd, n_ff), "ffn_down": (n_ff, n_embd)}
    found = [tensor(f"blk.{index}.{name}.weight", *shape) for name, shape in parts.items()]
    return [*found, tensor(f"blk.{index}.attn_norm.weight", n_embd, kind="F32")]


def model(n_layer: int = 2, *, is_tied: bool = False) -> ModelProfile:
    """Return a model of 8 heads of 64, 2 KV heads, feed-forward 1024 and 1000 tokens."""
    tensors = [each for index in range(n_layer) for each in block(index)]
    tensors += [tensor("token_embd.weight", 512, 1000), tensor("output_norm.weight", 512, kind="F32")]
    tensors += [] if is_tied else [tensor("output.weight", 512, 1000)]
    profile = profile_of([Block(MIB, MIB, 128, 128)] * n_layer, n_embd=512)
    profile = replace(profile, n_head=(8,) * n_layer, n_head_kv=(2,) * n_layer, head_dim_k=64, head_dim_v=64)
    return replace(profile, tensors=tuple(tensors), is_tied=is_tied)


def test_matrices_are_shared_and_norms_are_mirrored() -> None:
    (left, left_cache), (right, right_cache) = device_bytes(model(1), TENSOR, (1, 1))
    shared = sum(each.size_bytes for each in model(1).tensors if each.type == "Q8_0") - 512 * 1000 * Q8_0
    assert left == right == shared / 2 + 2 * 512 * 4
    assert left_cache == right_cache == sum(layer_cache_bytes(model(1), TENSOR)) / 2


def test_a_tied_output_is_mirrored_as_its_name_has_no_rule() -> None:
    untied, tied = (device_bytes(model(1, is_tied=each), TENSOR, (1, 1))[0][0] for each in (False, True))
    assert tied - untied == 512 * 1000 * Q8_0 / 2


def test_two_kv_heads_give_the_third_device_no_cache_but_blocks_take_turns() -> None:
    caches = [cache for _, cache in device_bytes(model(3), TENSOR, (1, 1, 1))]
    assert sum(caches) == sum(layer_cache_bytes(model(3), TENSOR))
    assert len(set(caches)) == 1
    assert sorted(cache for _, cache in device_bytes(model(1), TENSOR, (1, 1, 1)))[0] == 0


def test_fused_matrices_are_cut_part_by_part() -> None:
    fused = [tensor("blk.0.attn_qkv.weight", 512, 512 + 2 * 128), tensor("blk.0.ffn_up.weight", 512, 2 * 1024)]
    kept = [each for each in model(1).tensors if "attn_q." not in each.name and "ffn_up" not in each.name]
    kept = [each for each in kept if "attn_k" not in each.name and "attn_v" not in each.name]
    (left, _), (right, _) = device_bytes(replace(model(1), tensors=(*kept, *fused), n_ff=1024), TENSOR, (3, 1))
    assert left + right == sum(each.size_bytes for each in (*kept, *fused)) - 512 * 1000 * Q8_0 + 2 * 512 * 4
    assert left > right


def test_every_device_computes_with_whole_rows_and_sums_up_in_steps() -> None:
    model_of = ComputeModel(model(), TENSOR)
    assert model_of.tensor_mode(2) - model_of.tensor_mode(1) == 4 * 512 * 512
    assert model_of.tensor_mode(3) == model_of.tensor_mode(4)
    assert model_of.tensor_mode(5) - model_of.tensor_mode(4) == 4 * 512 * 512


def test_the_plan_counts_slices() -> None:
    plan = make_plan(model(), remote(100, 100), TENSOR)
    expected = device_bytes(model(), TENSOR, [each.share for each in plan.assignments])
    assert [(each.weights_bytes, each.kv_bytes) for each in plan.assignments] == list(expected)


def test_an_architecture_that_the_engine_cannot_split_is_refused() -> None:
    with pytest.raises(PlanError, match="cannot split mamba models by tensors: use split mode layer"):
        make_plan(replace(model(), architecture="mamba"), remote(100, 100), TENSOR, PlanOptions())


def test_what_is_short_is_told_per_device() -> None:
    with pytest.raises(DoesNotFit, match="MiB short on w1:50052"):
        make_plan(model(), remote(100, 1), TENSOR, PlanOptions())

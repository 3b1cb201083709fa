"""What a run of blocks costs: llama.cpp's arithmetic for caches, measured numbers for compute buffers."""

from typing import Any

import pytest

from rpc_wrapper.devices import MIB
from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner.memory import ComputeModel, Costs, Run, Workload, layer_cache_bytes, row_bytes
from rpc_wrapper.planner.profile import Block
from tests.planner.profiles import even_profile, profile_of

LLAMA = even_profile(1, n_embd=256)  # K and V are 128 wide


@pytest.mark.parametrize(
    ("workload", "cells"),
    [
        (Workload(ctx_size=512), 512),
        (Workload(ctx_size=500), 512),  # padded to 256
        (Workload(ctx_size=1, n_parallel=3), 3 * 256),
        (Workload(ctx_size=300, n_parallel=2), 2 * 512),
        (Workload(ctx_size=300, n_parallel=2, kv_unified=True), 768),  # one pool, padded once
        (Workload(ctx_size=0), 4096),  # what it was trained with
    ],
)
def test_the_cache_grows_with_padded_context_and_slots(workload: Workload, cells: int) -> None:
    assert workload.n_ctx(LLAMA) == cells
    assert layer_cache_bytes(LLAMA, workload) == [cells * (128 + 128) * 2]


@pytest.mark.parametrize(("kind", "size"), [("f32", 512), ("f16", 256), ("q8_0", 136), ("q4_0", 72), ("q5_1", 96)])
def test_cache_rows_have_the_size_of_their_type(kind: str, size: int) -> None:
    assert row_bytes(128, kind) == size


def test_a_row_that_its_type_does_not_divide_is_refused() -> None:
    with pytest.raises(PlanError, match="32 numbers at a time"):
        row_bytes(80, "q8_0")


def test_windowed_layers_keep_the_window_and_one_ubatch() -> None:
    block = Block(MIB, MIB, 128, 128)
    windowed = Block(MIB, MIB, 128, 128, is_windowed=True)
    profile = profile_of([block, windowed])
    object.__setattr__(profile, "n_window", 1000)
    full, window = layer_cache_bytes(profile, Workload(ctx_size=8192, n_ubatch=512, n_parallel=2))
    assert (full // 512, window // 512) == (2 * 8192, 2 * 1536)  # 1512 padded
    _, pooled = layer_cache_bytes(profile, Workload(ctx_size=8192, n_ubatch=512, n_parallel=2, kv_unified=True))
    assert pooled // 512 == 2560  # 2 x 1000 + 512, padded
    _, small = layer_cache_bytes(profile, Workload(ctx_size=512))
    assert small // 512 == 512


def test_state_is_kept_per_slot_in_f32() -> None:
    profile = profile_of([Block(MIB, MIB, 0, 0, state_width=1000)])
    assert layer_cache_bytes(profile, Workload(n_parallel=3)) == [3 * 4000]


def test_without_flash_attention_values_are_as_wide_as_the_widest() -> None:
    profile = profile_of([Block(MIB, MIB, 128, 128), Block(MIB, MIB, 128, 256)])
    narrow, wide = layer_cache_bytes(profile, Workload(ctx_size=256, flash_attn=False))
    assert (narrow, wide) == (256 * 2 * 384, 256 * 2 * 384)


def compute_mib(n_embd: int, n_ff: int, workload: Workload, *, pipelined: bool) -> tuple[float, float]:
    profile = even_profile(8, n_embd=n_embd)
    object.__setattr__(profile, "n_ff", n_ff)
    model = ComputeModel(profile, workload)
    device = model.device(Run(has_output=True), pipelined=pipelined)
    return device / MIB, model.host(pipelined=pipelined) / MIB


# Width, feed-forward, context, ubatch, flash attention, pipelined → device and host, MiB, as the engine reported them.
MEASURED = [
    (256, 704, 2048, 512, True, False, 7.63, 3.01),
    (256, 704, 2048, 512, True, True, 15.66, 10.55),
    (256, 704, 8192, 512, True, True, 39.66, 34.55),
    (256, 704, 2048, 64, True, True, 1.96, 1.32),
    (256, 256, 2048, 512, True, False, 4.01, 3.01),
    (256, 256, 2048, 512, True, True, 12.04, 10.55),
    (256, 4096, 2048, 512, True, False, 27.51, 3.01),
    (512, 704, 2048, 512, True, False, 9.13, 4.01),
    (1024, 704, 2048, 512, True, False, 10.01, 6.01),
    (1024, 704, 2048, 512, True, True, 24.04, 18.05),
    (256, 704, 2048, 512, False, False, 22.51, 5.51),
    (256, 704, 2048, 512, False, True, 38.02, 20.53),
    (256, 704, 8192, 512, False, True, 134.02, 68.53),
]


@pytest.mark.parametrize("row", MEASURED)
def test_compute_buffers_are_what_the_engine_reported(row: tuple[Any, ...]) -> None:
    n_embd, n_ff, ctx_size, n_ubatch, flash_attn, pipelined, device, host = row
    workload = Workload(ctx_size=ctx_size, n_ubatch=n_ubatch, flash_attn=flash_attn)
    assert compute_mib(n_embd, n_ff, workload, pipelined=pipelined) == pytest.approx((device, host), rel=0.05, abs=0.1)


def test_the_last_block_alone_needs_no_wide_rows() -> None:
    model = ComputeModel(even_profile(8), Workload())
    assert model.device(Run(is_tail=True), pipelined=False) < model.device(Run(), pipelined=False)
    serving_embeddings = ComputeModel(even_profile(8), Workload(embeddings=True))
    run, tail = Run(), Run(is_tail=True)
    assert serving_embeddings.device(tail, pipelined=False) == serving_embeddings.device(run, pipelined=False)


def test_the_output_alone_needs_its_logits() -> None:
    model = ComputeModel(even_profile(8), Workload(n_parallel=3))
    assert model.device(Run(has_blocks=False, has_output=True), pipelined=True) == 4 * 3 * (1000 + 256)


def test_costs_are_those_of_the_slots_in_the_run() -> None:
    profile = even_profile(4, block_bytes=10 * MIB, output_bytes=3 * MIB)
    costs = Costs(profile, Workload(ctx_size=512))
    cache = 512 * 256 * 2
    need = costs.need(1, 3, pipelined=False)
    assert (need.weights_bytes, need.kv_bytes) == (20 * MIB, 2 * cache)
    assert costs.need(3, 5, pipelined=False).weights_bytes == 13 * MIB
    assert costs.need(4, 5, pipelined=False).kv_bytes == 0
    assert costs.need(2, 2, pipelined=False).total_bytes == 0
    assert costs.total(1, 3, pipelined=True) == costs.need(1, 3, pipelined=True).total_bytes
    assert costs.active(3, 5) == 13 * MIB


def test_a_larger_run_never_needs_less() -> None:
    costs = Costs(even_profile(6), Workload())
    for start in range(8):
        totals = [costs.total(start, stop, pipelined=True) for stop in range(start, 8)]
        assert totals == sorted(totals)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ctx_size": -1}, "ctx_size is -1"),
        ({"n_parallel": 0}, "n_parallel is 0"),
        ({"n_parallel": 257}, "n_parallel is 257"),
        ({"n_ubatch": 0}, "n_ubatch is 0"),
        ({"cache_type_k": "q3_k"}, "'q3_k' is unknown"),
        ({"cache_type_v": "q8_0", "flash_attn": False}, "needs flash attention"),
        ({"split_mode": "row"}, "'row' does not work over RPC"),
    ],
)
def test_an_impossible_workload_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Workload(**values)

"""llama.cpp's placement arithmetic, and the comparison of a plan with what really happened."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc_wrapper.planner import Plan, PlanOptions, Strategy, Workload, make_plan
from rpc_wrapper.planner.topology import compare, place_slots, planned_slots
from tests.planner.profiles import even_profile, local_cpu, remote


@pytest.mark.parametrize(
    ("n_layer", "n_gpu_layers", "tensor_split", "placed"),
    [
        (8, 99, (5, 4), "000001111"),  # as the engine was seen to do
        (4, 5, (1, 1), "00011"),
        (4, 3, (2, 1), "--001"),
        (4, 0, (1,), "-----"),
        (4, 99, (), "-----"),
        (3, 4, (0, 1), "1111"),
    ],
)
def test_slots_go_where_the_engine_puts_them(
    n_layer: int, n_gpu_layers: int, tensor_split: tuple[int, ...], placed: str
) -> None:
    expected = tuple(None if mark == "-" else int(mark) for mark in placed)
    assert place_slots(n_layer, n_gpu_layers, tensor_split) == expected


def placed_by_engine(plan: Plan) -> dict[int, str]:
    """Return slot → device name as llama.cpp reads the plan's own command line."""
    argv = plan.argv()
    options = dict(zip(argv[::2], argv[1::2], strict=True))
    names = options["--device"].split(",")
    shares = [float(share) for share in options.get("--tensor-split", "").split(",") if share]
    slots = place_slots(plan.n_layer, int(options["-ngl"]), shares if names != ["none"] else [])
    return {slot: "CPU" if index is None else names[index] for slot, index in enumerate(slots)}


@settings(max_examples=300, deadline=None)
@given(
    n_layer=st.integers(1, 200),
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=15).filter(any),
)
def test_whole_shares_are_exact(n_layer: int, counts: list[int]) -> None:
    total = sum(counts)
    slots = place_slots(total - 1, total, counts)
    assert [slots.count(index) for index in range(len(counts))] == counts


@settings(max_examples=300, deadline=None)
@given(
    n_layer=st.integers(1, 128),
    budgets=st.lists(st.integers(40, 5000), min_size=1, max_size=14),
    cpu=st.none() | st.integers(40, 5000),
    strategy=st.sampled_from([Strategy.MEMORY, Strategy.COMPUTE, Strategy.MIXED, Strategy.UNIFORM]),
    kept=st.floats(0, 1),
    keep=st.booleans(),
)
def test_the_engine_does_exactly_what_the_plan_says(
    n_layer: int, budgets: list[int], cpu: int | None, strategy: Strategy, kept: float, keep: bool
) -> None:
    devices = [*remote(*(budget * 1000 for budget in budgets)), *([local_cpu(cpu * 1000)] if cpu else [])]
    split_layer = 1 + int(kept * (n_layer - 2)) if keep and n_layer > 1 else None
    options = PlanOptions(strategy=strategy, split_layer=split_layer)
    plan = make_plan(even_profile(n_layer), devices, Workload(ctx_size=512), options)
    assert placed_by_engine(plan) == planned_slots(plan)
    assert compare(plan, placed_by_engine(plan)) == []


def plan_of_eight() -> Plan:
    return make_plan(even_profile(8), remote(500, 500), Workload(ctx_size=512), PlanOptions(strategy=Strategy.UNIFORM))


def test_a_difference_names_both() -> None:
    plan = plan_of_eight()
    real = planned_slots(plan) | {3: "RPC1[w1:50052]", 8: "CPU"}
    assert compare(plan, real) == ["block 3 is planned on RPC0 but on RPC1", "the output is planned on RPC1 but on CPU"]


def test_a_run_of_differences_is_one_sentence() -> None:
    plan = plan_of_eight()
    real = dict.fromkeys(range(9), "RPC0[w0:50052]")
    assert compare(plan, real) == ["blocks 4 to 7 and the output are planned on RPC1 but on RPC0"]
    assert compare(plan, {}) == [
        "blocks 0 to 3 are planned on RPC0 but on no device at all",
        "blocks 4 to 7 and the output are planned on RPC1 but on no device at all",
    ]

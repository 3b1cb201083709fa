"""Cuts: what each strategy promises, as tables and as properties."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc_wrapper.devices import MIB
from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner.memory import Costs, Workload
from rpc_wrapper.planner.profile import Block
from rpc_wrapper.planner.strategies import Cut, Room, balanced_cut, custom_cut, first_fit_cut, overfull_cut, uniform_cut
from tests.planner.profiles import even_profile, profile_of

SMALL = Workload(ctx_size=256, n_ubatch=32)


@pytest.mark.parametrize(
    ("n_layer", "n_devices", "blocks"),
    [(32, 3, [11, 11, 10]), (24, 2, [12, 12]), (32, 4, [8, 8, 8, 8]), (5, 2, [3, 2]), (2, 3, [1, 1, 0])],
)
def test_uniform_gives_the_first_ones_more(n_layer: int, n_devices: int, blocks: list[int]) -> None:
    cut = uniform_cut(n_layer, n_devices)
    assert cut[-1] == n_layer + 1
    assert [b - a for a, b in pairwise(cut)] == [*blocks[:-1], blocks[-1] + 1]


def test_custom_boundaries_are_inclusive() -> None:
    assert custom_cut(22, 3, [(0, 7), (8, 20), (21, 21)]) == (0, 8, 21, 23)


@pytest.mark.parametrize(
    ("boundaries", "message"),
    [
        ([(0, 7), (9, 31)], "leaves a gap: block 8"),
        ([(1, 7), (8, 31)], "leaves a gap: block 0"),
        ([(0, 8), (8, 31)], "overlaps: block 8"),
        ([(0, 7), (8, 32)], "8-32 is out of range"),
        ([(0, 7), (9, 8)], "9-8 is out of range"),
        ([(0, 7), (8, 30)], "end at block 30"),
        ([(0, 31)], "1 boundaries are given for 2 devices"),
        ([], "0 boundaries are given"),
    ],
)
def test_bad_boundaries_are_named(boundaries: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        custom_cut(32, 2, boundaries)


def cut_sizes(costs: Costs, room: Room, weight: float) -> list[int]:
    cut = balanced_cut(costs, room, weight)
    assert cut is not None
    return [b - a for a, b in pairwise(cut)]


def test_compute_is_even_on_even_devices() -> None:
    costs = Costs(even_profile(32, output_bytes=0), SMALL)
    assert cut_sizes(costs, Room((10**12,) * 4, (1.0,) * 4, False), 0) == [8, 8, 8, 9]


def test_compute_follows_speed() -> None:
    costs = Costs(even_profile(32, output_bytes=0), SMALL)
    assert cut_sizes(costs, Room((10**12,) * 2, (3.0, 1.0), False), 0) == [24, 9]


def test_compute_leaves_no_device_without_a_block() -> None:
    costs = Costs(even_profile(5, output_bytes=0), SMALL)
    sizes = cut_sizes(costs, Room((10**12,) * 4, (100.0, 1.0, 1.0, 1.0), False), 0)
    assert min(sizes) >= 1
    assert sizes[-1] >= 2  # a block and the output


def test_memory_follows_budgets() -> None:
    costs = Costs(even_profile(24, block_bytes=100 * MIB), SMALL)
    sizes = cut_sizes(costs, Room((2000 * MIB, 1000 * MIB, 1000 * MIB), (1.0,) * 3, False), 1)
    assert sizes == [12, 6, 7]


def test_the_weight_of_memory_changes_the_cut() -> None:
    costs = Costs(even_profile(20, block_bytes=100 * MIB), SMALL)
    room = Room((16000 * MIB, 4000 * MIB), (1.0, 4.0), False)
    assert cut_sizes(costs, room, 1)[0] > cut_sizes(costs, room, 0.6)[0] > cut_sizes(costs, room, 0)[0]


def test_time_never_goes_over_a_budget() -> None:
    costs = Costs(even_profile(20, block_bytes=100 * MIB), SMALL)
    room = Room((4000 * MIB, 500 * MIB), (1.0, 1000.0), False)
    assert cut_sizes(costs, room, 0) == [16, 5]


def test_a_model_that_does_not_fit_has_no_cut_but_an_overfull_one() -> None:
    costs = Costs(even_profile(10, block_bytes=100 * MIB), SMALL)
    room = Room((300 * MIB, 600 * MIB), (1.0, 1.0), False)
    assert balanced_cut(costs, room, 1) is None
    assert first_fit_cut(costs, room) is None
    cut = overfull_cut(costs, room)
    assert cut[0] == 0
    assert cut[-1] == 11
    assert cut[1] in (3, 4)


blocks = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=40)
rooms = st.lists(st.tuples(st.integers(0, 400), st.floats(0.1, 100)), min_size=1, max_size=15)


def build(sizes: list[tuple[int, int]], places: list[tuple[int, float]], pipelined: bool) -> tuple[Costs, Room]:
    profile = profile_of([Block(total * MIB, min(total, active) * MIB, 128, 128) for total, active in sizes])
    budgets, speeds = zip(*places, strict=True)
    return Costs(profile, SMALL), Room(tuple(b * MIB for b in budgets), speeds, pipelined)


@settings(max_examples=300, deadline=None)
@given(blocks, rooms, st.booleans(), st.floats(0, 1))
def test_a_cut_covers_everything_in_order_and_within_budgets(
    sizes: list[tuple[int, int]], places: list[tuple[int, float]], pipelined: bool, weight: float
) -> None:
    costs, room = build(sizes, places, pipelined)
    cut = balanced_cut(costs, room, weight)
    assert (cut is None) == (first_fit_cut(costs, room) is None)
    assert cut == balanced_cut(costs, room, weight)
    if cut is None:
        return
    assert cut[0] == 0
    assert cut[-1] == len(sizes) + 1
    assert list(cut) == sorted(cut)
    for budget, (start, stop) in zip(room.budgets, pairwise(cut), strict=True):
        assert costs.total(start, stop, pipelined) <= budget


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
)
def test_memory_is_as_even_as_any_cut_could_be(sizes: list[int], budgets: list[int]) -> None:
    costs, room = build([(size, size) for size in sizes], [(b, 1.0) for b in budgets], False)

    def worst(cut: Cut) -> float:
        loads = []
        for budget, (start, stop) in zip(room.budgets, pairwise(cut), strict=True):
            compute = costs.compute(start, stop, False) if start < stop else 0
            load = costs.total(start, stop, False) - compute
            loads.append(load / max(budget - compute, 1) if load + compute <= budget else float("inf"))
        return max(loads)

    stop = len(sizes) + 1
    every: list[Cut] = [(0, stop)]
    for _ in budgets[1:]:
        every = [(*cut[:-1], point, stop) for cut in every for point in range(cut[-2], stop + 1)]
    least = min(map(worst, every))
    cut = balanced_cut(costs, room, 1)
    assert (cut is None) == (least == float("inf"))
    if cut is not None:
        assert worst(cut) <= least * 1.001

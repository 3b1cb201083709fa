"""Cut a model into contiguous runs, one per device: pure functions from costs and budgets to cut points.

A *cut* is a tuple of slot numbers, one per device plus the end: device i holds slots ``cut[i]`` to ``cut[i + 1] - 1``.
Three strategies are one search with different scores: fill a device's memory evenly (``memory``), finish every stage at
the same time (``compute``), or a weighted sum of both (``mixed``). For a fixed score the greedy cut, each device taking
all it may, covers the model if any cut does; so the best score is found by bisection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import inf

from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner.memory import Costs

Cut = tuple[int, ...]
Load = Callable[[int, int, int], float]  # device, first slot, stop slot → how loaded the device is
Fits = Callable[[int, int, int], bool]  # device, first slot, stop slot → whether it may take that run
PRECISION = 1e-3  # of the best load; finer cuts than that are no better in practice
LARGEST = 1e300


class Strategy(StrEnum):
    """How to divide the blocks."""

    UNIFORM = "uniform"
    MEMORY = "memory"
    COMPUTE = "compute"
    MIXED = "mixed"
    CUSTOM = "custom"
    SINGLE_DEVICE = "single_device"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Room:
    """The places to fill, in placement order: what each may hold and how fast it is (any unit).

    ``pipelined``: they work on several ubatches at once, as llama.cpp does when all is on two or more devices.
    """

    budgets: tuple[int, ...]
    speeds: tuple[float, ...]
    pipelined: bool

    def __len__(self) -> int:
        return len(self.budgets)


def uniform_cut(n_layer: int, n_devices: int, first: int = 0) -> Cut:
    """Give every device the same number of blocks, the first ones one more; the output goes to the last.

    >>> uniform_cut(32, 3)
    (0, 11, 22, 33)
    """
    share, extra = divmod(n_layer - first, n_devices)
    cut = [first]
    for device in range(n_devices):
        cut.append(cut[-1] + share + (device < extra))
    cut[-1] += 1
    return tuple(cut)


def custom_cut(n_layer: int, n_devices: int, boundaries: Sequence[tuple[int, int]]) -> Cut:
    """Cut at inclusive boundaries, one pair per device; raise PlanError on a gap, an overlap or a wrong number."""
    if len(boundaries) != n_devices:
        raise PlanError(
            f"{len(boundaries)} boundaries are given for {n_devices} devices, give one first-last per device"
        )
    cut = [0]
    for first, last in boundaries:
        if not 0 <= first <= last < n_layer:
            raise PlanError(f"boundary {first}-{last} is out of range: the blocks are 0 to {n_layer - 1}")
        if first > cut[-1]:
            raise PlanError(f"boundary {first}-{last} leaves a gap: block {cut[-1]} is on no device")
        if first < cut[-1]:
            raise PlanError(f"boundary {first}-{last} overlaps: block {first} is on two devices")
        cut.append(last + 1)
    if cut[-1] != n_layer:
        raise PlanError(f"the boundaries end at block {cut[-1] - 1}: blocks up to {n_layer - 1} must be placed")
    cut[-1] += 1
    return tuple(cut)


def balanced_cut(costs: Costs, room: Room, memory_weight: float, first: int = 0) -> Cut | None:
    """Cut so that the most loaded device is loaded least, within all budgets; None if no cut fits.

    ``memory_weight`` 1 counts memory only, 0 time only. ``first`` is the first slot to place.
    """
    load = _loads(costs, room, memory_weight, first)
    stop = costs.n_layer + 1

    def cover(limit: float, *, spread: bool) -> Cut | None:
        return _greedy(lambda i, a, b: load(i, a, b) <= limit, (first, stop, len(room)), spread=spread)

    # Only time has the promise that no device idles; when memory forbids that, the promise goes, not the plan.
    if memory_weight < 1 and costs.n_layer - first >= len(room):
        cut = _least(lambda limit: cover(limit, spread=True), load)
        if cut is not None:
            return cut
    cut = _least(lambda limit: cover(limit, spread=False), load)
    return cut and _level(cut, load)


def first_fit_cut(costs: Costs, room: Room, first: int = 0) -> Cut | None:
    """Cut by filling one device after the other to its budget; None if the model does not fit."""

    def fits(device: int, start: int, end: int) -> bool:
        return costs.total(start, end, room.pipelined) <= room.budgets[device]

    return _greedy(fits, (first, costs.n_layer + 1, len(room)), spread=False)


def overfull_cut(costs: Costs, room: Room, first: int = 0) -> Cut:
    """Cut by memory although it does not fit: every device over its budget by the same factor, if that can be."""

    def overload(device: int, start: int, end: int) -> float:
        return costs.total(start, end, room.pipelined) / max(room.budgets[device], 1)

    def cover(limit: float) -> Cut | None:
        return _greedy(lambda i, a, b: overload(i, a, b) <= limit, (first, stop, len(room)), spread=False)

    stop = costs.n_layer + 1
    cut = _least(cover, overload)
    assert cut is not None, "without budgets every model fits"
    return cut


def _loads(costs: Costs, room: Room, weight: float, first: int) -> Load:
    """Return how loaded a device is by a run of slots; infinite over its budget, and never less for a longer run."""
    ideal = max(costs.active(first, costs.n_layer + 1), 1) / sum(room.speeds)  # every device busy all the time
    time = [(1 - weight) / (speed * ideal) for speed in room.speeds]
    pipelined = room.pipelined

    def load(device: int, start: int, end: int) -> float:
        if start >= end:
            return 0.0
        total, budget = costs.total(start, end, pipelined), room.budgets[device]
        if total > budget:
            return inf
        # What is left after the compute buffer is what counts: every device that has some gets its share of blocks.
        compute = costs.compute(start, end, pipelined)
        fill = (total - compute) / max(budget - compute, 1)
        return weight * fill + time[device] * costs.active(start, end)

    return load


def _least(cover: Callable[[float], Cut | None], load: Load) -> Cut | None:
    """Return the cut with (nearly) the least limit that still covers the model; None if no finite limit does."""
    best = cover(LARGEST)
    if best is None:
        return None
    low, high = 0.0, _heaviest(best, load)
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        found = cover(middle)
        if found is None:
            low = middle
        else:
            best, high = found, _heaviest(found, load)
    return best


def _heaviest(cut: Cut, load: Load) -> float:
    return max(load(device, start, end) for device, (start, end) in enumerate(pairwise(cut)))


def _greedy(fits: Fits, task: tuple[int, int, int], *, spread: bool) -> Cut | None:
    """Let each device in turn take all it may; with ``spread`` leave one block for each that follows.

    ``task`` is the first slot, the slot to stop at, and the number of devices.
    """
    first, stop, n_devices = task
    cut = [first]
    for device in range(n_devices):
        start = cut[-1]
        followers = n_devices - 1 - device
        most = stop - 1 - followers if spread and followers else stop
        end = _furthest(fits, device, start, most)
        if spread and end == start:
            return None
        cut.append(end)
    return tuple(cut) if cut[-1] == stop else None


def _furthest(fits: Fits, device: int, start: int, most: int) -> int:
    low, high = start, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(device, start, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _level(cut: Cut, load: Load) -> Cut:
    """Move single blocks to the next device while that makes the pair's larger load smaller."""
    points = list(cut)
    moved = True
    while moved:
        moved = False
        for i in range(len(points) - 2, 0, -1):
            while points[i] > points[i - 1] + 1 and _pair(points, i, points[i] - 1, load) < _pair(
                points, i, points[i], load
            ):
                points[i] -= 1
                moved = True
    return tuple(points)


def _pair(points: Sequence[int], i: int, point: int, load: Load) -> float:
    """Return the larger load of the two devices beside a cut point, if it were here."""
    return max(load(i - 1, points[i - 1], point), load(i, point, points[i + 1]))

"""Cut a model into contiguous runs, one per device: pure functions from costs and budgets to cut points.

A *cut* is a tuple of slot numbers, one per device plus the end: device i holds slots ``cut[i]`` to ``cut[i + 1] - 1``.
Three strategies are one search with different scores: fill a device's memory evenly (``memory``), finish every stage at
the same time (``compute``), or a weighted sum of both (``mixed``). For a fixed score the greedy cut, each device taking
all it may, covers the model if any cut does; so the best score is found by bisection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner.memory import Costs

Cut = tuple[int, ...]
Score = Callable[[int, int, int], float]  # device, first slot, stop slot → how loaded the device is
BISECTIONS = 26


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
    score, top = _score(costs, room, memory_weight, first)
    totals = _totals(costs, room)
    stop = costs.n_layer + 1

    def cover(limit: float, spread: bool) -> Cut | None:
        def fits(device: int, start: int, end: int) -> bool:
            return totals(start, end) <= room.budgets[device] and score(device, start, end) <= limit

        return _greedy(fits, len(room), first, stop, spread=spread)

    # Only time has the promise that no device idles; when memory forbids that, the promise goes, not the plan.
    for spread in (True, False) if memory_weight < 1 and costs.n_layer - first >= len(room) else (False,):
        best = cover(top, spread)
        if best is not None:
            low, high = 0.0, top
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                found = cover(middle, spread)
                if found is None:
                    low = middle
                else:
                    best, high = found, middle
            return best if spread else _level(best, score, lambda i, a, b: totals(a, b) <= room.budgets[i])
    return None


def first_fit_cut(costs: Costs, room: Room, first: int = 0) -> Cut | None:
    """Cut by filling one device after the other to its budget; None if the model does not fit."""
    totals = _totals(costs, room)
    return _greedy(lambda i, a, b: totals(a, b) <= room.budgets[i], len(room), first, costs.n_layer + 1, spread=False)


def overfull_cut(costs: Costs, room: Room, first: int = 0) -> Cut:
    """Cut by memory although it does not fit: every device over its budget by the same factor, if that can be."""
    totals = _totals(costs, room)
    stop = costs.n_layer + 1
    best: Cut = (first,) * len(room) + (stop,)
    low, high = 0.0, 1e6
    for _ in range(2 * BISECTIONS):
        middle = (low + high) / 2
        limit = middle
        found = _greedy(lambda i, a, b: totals(a, b) <= limit * room.budgets[i], len(room), first, stop, spread=False)  # noqa: B023
        if found is None:
            low = middle
        else:
            best, high = found, middle
    return best


def _score(costs: Costs, room: Room, weight: float, first: int) -> tuple[Score, float]:
    """Return the score to keep small, and a value that no device within its budget exceeds."""
    totals = _totals(costs, room)
    stop = costs.n_layer + 1
    ideal = max(costs.active(first, stop), 1) / sum(room.speeds)  # every device busy all the time
    time = [(1 - weight) / (speed * ideal) for speed in room.speeds]

    def fill(device: int, start: int, end: int) -> float:
        # What is left after the compute buffer is what counts: every device that has some gets its share of blocks.
        compute = costs.compute(start, end, room.pipelined)
        return (totals(start, end) - compute) / max(room.budgets[device] - compute, 1) if start < end else 0.0

    def score(device: int, start: int, end: int) -> float:
        value = weight * fill(device, start, end) if weight else 0.0
        return value + time[device] * costs.active(start, end) if weight < 1 else value

    return score, weight + (1 - weight) * sum(room.speeds) / min(room.speeds) + 1e-9


def _totals(costs: Costs, room: Room) -> Callable[[int, int], int]:
    return lambda start, end: costs.total(start, end, room.pipelined)


def _greedy(
    fits: Callable[[int, int, int], bool], n_devices: int, first: int, stop: int, *, spread: bool
) -> Cut | None:
    """Let each device in turn take all it may; with ``spread`` leave one block for each that follows."""
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


def _furthest(fits: Callable[[int, int, int], bool], device: int, start: int, most: int) -> int:
    low, high = start, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(device, start, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _level(cut: Cut, score: Score, allowed: Callable[[int, int, int], bool]) -> Cut:
    """Move single blocks to the next device while that makes the pair's larger score smaller."""
    points = list(cut)
    moved = True
    while moved:
        moved = False
        for i in range(len(points) - 2, 0, -1):
            before = max(score(i - 1, points[i - 1], points[i]), score(i, points[i], points[i + 1]))
            while points[i] > points[i - 1] + 1 and allowed(i, points[i] - 1, points[i + 1]):
                after = max(score(i - 1, points[i - 1], points[i] - 1), score(i, points[i] - 1, points[i + 1]))
                if after >= before:
                    break
                points[i] -= 1
                before, moved = after, True
    return tuple(points)

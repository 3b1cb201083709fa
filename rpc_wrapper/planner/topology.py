"""Where llama.cpp puts each slot for a given command line, and how that compares with a plan.

The arithmetic is ``get_layer_buft_list`` in llama-model.cpp: cumulative shares and a quotient, both in 32-bit floats.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpc_wrapper.planner.plan import Plan

HOST = "CPU"


def place_slots(n_layer: int, n_gpu_layers: int, tensor_split: Sequence[float]) -> tuple[int | None, ...]:
    """Return the device index of slots 0..n_layer (the last is the output); None is the host's CPU."""
    bounds: list[float] = []
    total = 0.0
    for share in tensor_split:
        total = f32(total + f32(share))
        bounds.append(total)
    bounds = [f32(bound / total) for bound in bounds] if total else bounds
    start = max(n_layer + 1 - n_gpu_layers, 0)
    count = min(n_gpu_layers, n_layer + 1) if bounds else 0
    return tuple(_device(slot - start, count, bounds) for slot in range(n_layer + 1))


def _device(position: int, count: int, bounds: Sequence[float]) -> int | None:
    if not 0 <= position < count:
        return None
    share = f32(position / count)
    return next(index for index, bound in enumerate(bounds) if bound > share)


def f32(value: float) -> float:
    """Return a number as a 32-bit float holds it."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def planned_slots(plan: "Plan") -> dict[int, str]:
    """Return the device name that the plan gives each slot; the output is slot ``n_layer``."""
    slots: dict[int, str] = {}
    for each in plan.assignments:
        slots |= {block: each.device for block in range(each.first_block, each.last_block + 1)}
        if each.has_output:
            slots[plan.n_layer] = each.device
    return slots


def compare(plan: "Plan", placement: Mapping[int, str]) -> list[str]:
    """Return a sentence for each run of slots that the engine placed elsewhere than planned; empty when all is well.

    ``placement`` maps slots to device names as the load log writes them (``RPC0`` or ``RPC0[host:port]``).
    """
    planned = planned_slots(plan)
    wrong: list[tuple[int, str, str]] = []
    for slot in sorted(planned):
        real = placement.get(slot, "no device at all").partition("[")[0]
        if real != planned[slot]:
            wrong.append((slot, planned[slot], real))
    return [f"{_slots(plan, first, last)} planned on {want} but on {real}" for first, last, want, real in _runs(wrong)]


def _runs(wrong: Sequence[tuple[int, str, str]]) -> list[tuple[int, int, str, str]]:
    runs: list[tuple[int, int, str, str]] = []
    for slot, want, real in wrong:
        if runs and runs[-1][1:] == (slot - 1, want, real):
            runs[-1] = (runs[-1][0], slot, want, real)
        else:
            runs.append((slot, slot, want, real))
    return runs


def _slots(plan: "Plan", first: int, last: int) -> str:
    if first == plan.n_layer:
        return "the output is"
    if last == plan.n_layer:
        return f"blocks {first} to {last - 1} and the output are"
    return f"block {first} is" if first == last else f"blocks {first} to {last} are"

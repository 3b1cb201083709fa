"""Shares for split mode ``tensor``: every device holds a slice of every block.

llama.cpp slices each tensor by the cumulative shares, rounded to whole groups of heads or quantisation blocks
(``llama_meta_device_get_split_state`` in llama-model.cpp).
"""

from collections.abc import Sequence

from rpc_wrapper.devices import Device
from rpc_wrapper.errors import DoesNotFit, PlanError
from rpc_wrapper.planner.memory import Costs
from rpc_wrapper.planner.plan import HOST_DEVICE, Assignment, PlanOptions
from rpc_wrapper.planner.strategies import Strategy

RESOLUTION = 64  # shares are whole numbers out of about this


def share_tensors(costs: Costs, places: Sequence[Device], options: PlanOptions) -> tuple[Assignment, ...]:
    """Give every device a share of everything; raise PlanError for what this mode cannot do, DoesNotFit when short."""
    if any(device.name == HOST_DEVICE for device in places):
        raise PlanError("split mode tensor cannot use the server's own CPU: leave it out, or use split mode layer")
    if options.strategy in (Strategy.CUSTOM, Strategy.SINGLE_DEVICE):
        raise PlanError(f"strategy {options.strategy} places whole blocks: use split mode layer")
    shares = _shares(places, options)
    total = sum(shares)
    assignments = tuple(_assignment(costs, device, share, total) for device, share in zip(places, shares, strict=True))
    short = {each.label: -each.headroom_bytes for each in assignments if each.headroom_bytes < 0}
    if short:
        parts = [f"{-(-missing // (1 << 20))} MiB short on {label}" for label, missing in short.items()]
        raise DoesNotFit(", ".join(parts), short)
    return assignments


def _shares(places: Sequence[Device], options: PlanOptions) -> list[int]:
    if options.strategy is Strategy.UNIFORM:
        return [1] * len(places)
    memory, speed = sum(device.budget_bytes for device in places) or 1, sum(device.speed for device in places)
    weight = {Strategy.COMPUTE: 0.0, Strategy.MIXED: options.memory_weight}.get(options.strategy, 1.0)
    wanted = [weight * device.budget_bytes / memory + (1 - weight) * device.speed / speed for device in places]
    return [max(1, round(RESOLUTION * each)) for each in wanted]


def _assignment(costs: Costs, device: Device, share: int, total: int) -> Assignment:
    whole = costs.need(0, costs.n_layer + 1, pipelined=False)
    return Assignment(
        endpoint=device.endpoint,
        device=device.name,
        index=device.index,
        first_block=0,
        last_block=costs.n_layer - 1,
        has_output=True,
        weights_bytes=-(-whole.weights_bytes * share // total),
        kv_bytes=-(-whole.kv_bytes * share // total),
        compute_bytes=whole.compute_bytes,
        budget_bytes=device.budget_bytes,
        share=share,
    )

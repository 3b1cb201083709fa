"""Shares for split mode ``tensor``: every device holds a slice of every block (:mod:`rpc_wrapper.planner.slices`)."""

from collections.abc import Sequence

from rpc_wrapper.devices import Device
from rpc_wrapper.errors import DoesNotFit, PlanError
from rpc_wrapper.planner.memory import Costs
from rpc_wrapper.planner.plan import HOST_DEVICE, Assignment, PlanOptions
from rpc_wrapper.planner.slices import UNSUPPORTED, device_bytes
from rpc_wrapper.planner.strategies import Strategy

RESOLUTION = 64  # shares are whole numbers out of about this


def share_tensors(costs: Costs, places: Sequence[Device], options: PlanOptions) -> tuple[Assignment, ...]:
    """Give every device a share of everything; raise PlanError for what this mode cannot do, DoesNotFit when short."""
    if any(device.name == HOST_DEVICE for device in places):
        raise PlanError("split mode tensor cannot use the server's own CPU: leave it out, or use split mode layer")
    if options.strategy in (Strategy.CUSTOM, Strategy.SINGLE_DEVICE):
        raise PlanError(f"strategy {options.strategy} places whole blocks: use split mode layer")
    if costs.profile.architecture in UNSUPPORTED:
        raise PlanError(f"the engine cannot split {costs.profile.architecture} models by tensors: use split mode layer")
    shares = _shares(places, options)
    held = device_bytes(costs.profile, costs.workload, shares)
    compute = costs.compute_model.tensor_mode(len(places))
    assignments = tuple(
        _assignment(costs.n_layer, device, share, (*sizes, compute))
        for device, share, sizes in zip(places, shares, held, strict=True)
    )
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


def _assignment(n_layer: int, device: Device, share: int, sizes_bytes: tuple[int, int, int]) -> Assignment:
    weights, kv, compute = sizes_bytes
    return Assignment(
        endpoint=device.endpoint,
        device=device.name,
        index=device.index,
        first_block=0,
        last_block=n_layer - 1,
        has_output=True,
        weights_bytes=weights,
        kv_bytes=kv,
        compute_bytes=compute,
        budget_bytes=device.budget_bytes,
        share=share,
    )

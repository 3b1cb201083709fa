"""From backends that answer to what llama-server is told: the devices as it will number them, and the plan. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rpc_wrapper.devices import MAX_DEVICES, Device
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.gateway.backends import BackendReport
from rpc_wrapper.planner import Plan


@dataclass(frozen=True, slots=True)
class Placement:
    """A plan over the backends that it uses, and their devices under the engine's names."""

    plan: Plan
    backends: tuple[BackendReport, ...]
    devices: tuple[Device, ...]


def number_devices(backends: Sequence[BackendReport], own: Sequence[Device]) -> tuple[Device, ...]:
    """Number the devices as the engine does: over the endpoints of ``--rpc`` in order, then its own.

    Raises ConfigError for more than the engine can split over.
    """
    devices: list[Device] = []
    for backend in backends:
        devices += backend.devices(len(devices))
    devices += own
    if len(devices) > MAX_DEVICES:
        raise ConfigError(
            f"the backends expose {len(devices)} devices, the engine splits over {MAX_DEVICES} at most: remove some"
        )
    return tuple(devices)


def use_only_planned(plan: Plan, backends: Sequence[BackendReport], own: Sequence[Device]) -> Placement:
    """Return the plan over those backends alone that hold something.

    llama-server connects to everybody it is told of, and dies with any of them; without the others the rest is
    numbered anew.
    """
    used = tuple(backend for backend in backends if backend.endpoint in plan.endpoints)
    devices = number_devices(used, own)
    names = {(device.endpoint, device.index): device.name for device in devices}
    assignments = tuple(
        replace(each, device=names.get((each.endpoint, each.index), each.device) if each.endpoint else each.device)
        for each in plan.assignments
    )
    return Placement(replace(plan, assignments=assignments), used, devices)

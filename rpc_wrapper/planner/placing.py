"""Make a plan: order the devices, cut the model, and write down the arithmetic; or refuse with numbers."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from rpc_wrapper.devices import MAX_DEVICES, MAX_ENDPOINTS, Device
from rpc_wrapper.errors import DoesNotFit, PlanError
from rpc_wrapper.planner import remedies
from rpc_wrapper.planner.memory import Costs, Workload
from rpc_wrapper.planner.plan import (
    HOST_DEVICE,
    UNLIMITED_BYTES,
    Assignment,
    HostPart,
    Plan,
    PlanOptions,
    arithmetic,
    check,
    mib,
)
from rpc_wrapper.planner.profile import ModelProfile
from rpc_wrapper.planner.strategies import (
    Cut,
    Room,
    Strategy,
    balanced_cut,
    custom_cut,
    first_fit_cut,
    overfull_cut,
    uniform_cut,
)
from rpc_wrapper.planner.tensor_split import share_tensors


def make_plan(
    profile: ModelProfile,
    devices: Sequence[Device],
    workload: Workload = Workload(),  # noqa: B008 - frozen
    options: PlanOptions = PlanOptions(),  # noqa: B008 - frozen
) -> Plan:
    """Decide which device holds which blocks.

    Raises PlanError when the request makes no sense, and DoesNotFit, with the shortfall per device and the ways out,
    when memory is short. The same arguments always give the same plan.
    """
    try:
        return place(profile, devices, workload, options)
    except DoesNotFit as error:
        ways = remedies.find(place, profile, devices, workload, options)
        raise DoesNotFit(remedies.sentence(error, ways), error.shortfall_bytes, ways) from None


def memory_weight(options: PlanOptions) -> float:
    """Return how much memory counts against time in the score of a strategy."""
    return {Strategy.COMPUTE: 0.0, Strategy.MIXED: options.memory_weight}.get(options.strategy, 1.0)


def place(profile: ModelProfile, devices: Sequence[Device], workload: Workload, options: PlanOptions) -> Plan:
    """Make a plan, or raise a bare DoesNotFit: :func:`make_plan` without the search for ways out."""
    _check_devices(devices)
    costs = Costs(profile, workload)
    host_blocks = _host_blocks(profile.n_layer, options)
    places = _ordered(devices, host_blocks, options)
    if workload.split_mode == "tensor":
        assignments = share_tensors(costs, places, options)
    else:
        cut = _cut(costs, places, options, host_blocks)
        assignments = _assignments(costs, places, cut)
        _refuse_overfull(assignments)
    host = _host(costs, assignments)
    n_ctx = workload.n_ctx(profile)
    reason = _reason(profile, workload, options, assignments)
    plan = Plan(profile.name, profile.n_layer, options.strategy, workload, n_ctx, assignments, host, reason)
    check(plan)
    return plan


def check_model(plan: Plan, profile: ModelProfile) -> None:
    """Raise PlanError unless a plan was made for this model: as many blocks, and the same weights in each part."""
    if plan.n_layer != profile.n_layer:
        raise PlanError(f"the plan is for {plan.n_layer} blocks, the model has {profile.n_layer}: plan again")
    if plan.workload.split_mode == "tensor":
        return
    costs = Costs(profile, plan.workload)
    for each in plan.assignments:
        stop = each.last_block + 1 + each.has_output
        if costs.need(each.first_block, stop, pipelined=False).weights_bytes != each.weights_bytes:
            raise PlanError(f"the plan counts other weights for {each.label} than the model has: plan again")


def _host(costs: Costs, assignments: Sequence[Assignment]) -> HostPart:
    if any(each.device == HOST_DEVICE for each in assignments):
        return HostPart(costs.profile.embedding_bytes, 0)  # its compute buffer stands in its assignment
    pipelined = len(assignments) > 1 and costs.workload.split_mode == "layer"
    return HostPart(costs.profile.embedding_bytes, costs.compute_model.host(pipelined=pipelined))


def _check_devices(devices: Sequence[Device]) -> None:
    names = [device.name for device in devices]
    if len(set(names)) < len(names):
        raise PlanError(f"device names must be unique, got {', '.join(names)}")
    n_offloaded = sum(name != HOST_DEVICE for name in names)
    if n_offloaded > MAX_DEVICES:
        raise PlanError(f"{n_offloaded} devices are listed, the engine takes {MAX_DEVICES} at most: leave some out")
    n_endpoints = len({device.endpoint for device in devices if device.endpoint})
    if n_endpoints > MAX_ENDPOINTS:
        raise PlanError(f"{n_endpoints} endpoints are listed, the engine takes {MAX_ENDPOINTS} at most: leave some out")
    for device in devices:
        if device.budget_bytes < 0 or not 0 < device.speed < float("inf"):
            raise PlanError(
                f"{device.label} has budget {device.budget_bytes} and speed {device.speed}: both are positive"
            )


def _host_blocks(n_layer: int, options: PlanOptions) -> int | None:
    """Return how many first blocks must stay on the server itself; None when the strategy may choose."""
    split, gpu_layers = options.split_layer, options.gpu_layers
    if split is not None and not 1 <= split < n_layer:
        raise PlanError(f"split_layer is {split}, a model of {n_layer} blocks can be split at 1 to {n_layer - 1}")
    if gpu_layers is None or gpu_layers > n_layer:
        return split
    if gpu_layers < 0:
        raise PlanError(f"gpu_layers is {gpu_layers}, use 0 to {n_layer + 1}")
    kept = n_layer + 1 - gpu_layers
    if split is not None and split != kept:
        raise PlanError(
            f"gpu_layers {gpu_layers} keeps {kept} blocks on the server but split_layer says {split}: set one"
        )
    return kept


def _ordered(devices: Sequence[Device], host_blocks: int | None, options: PlanOptions) -> tuple[Device, ...]:
    """Return the devices in placement order: the host's CPU first, RPC devices, then the host's own accelerators.

    When the server itself must keep the first blocks, its accelerator comes first, or else its CPU does.
    """
    cpu = [device for device in devices if device.name == HOST_DEVICE]
    remote = [device for device in devices if not device.is_local]
    local = [device for device in devices if device.is_local and device.name != HOST_DEVICE]
    host = cpu or [
        Device(HOST_DEVICE, UNLIMITED_BYTES if options.host_budget_bytes is None else options.host_budget_bytes)
    ]
    if options.strategy is Strategy.LOCAL:
        return (*cpu, *local) or tuple(host)
    if host_blocks is not None:
        return (*local[:1], *remote, *local[1:]) if local else (*host, *remote)
    if not devices:
        raise PlanError("no device is left to plan for: list at least one backend, or use strategy local")
    return (*cpu, *remote, *local)


def _cut(costs: Costs, places: Sequence[Device], options: PlanOptions, host_blocks: int | None) -> Cut:
    if options.strategy is Strategy.CUSTOM:
        cut = custom_cut(costs.n_layer, len(places), options.boundaries)
        if host_blocks is not None and cut[1] != host_blocks:
            raise PlanError(f"the server keeps {host_blocks} blocks but the first boundary gives it {cut[1]}")
        return cut
    if host_blocks is not None and options.strategy is not Strategy.LOCAL:
        return _cut_after_host(costs, places, options, host_blocks)
    if options.strategy is Strategy.SINGLE_DEVICE:
        return _single_cut(costs, places, options.device)
    if options.strategy is Strategy.UNIFORM:
        return uniform_cut(costs.n_layer, len(places))
    return _balanced(costs, places, options)


def _cut_after_host(costs: Costs, places: Sequence[Device], options: PlanOptions, host_blocks: int) -> Cut:
    """Leave the first blocks to the first place, which is the server's own, and divide the rest."""
    n_layer, n_rest = costs.n_layer, len(places) - 1
    if host_blocks > n_layer:
        return _everything_on(0, n_layer + 1, len(places))
    if not n_rest:
        raise PlanError(f"the server keeps {host_blocks} of {n_layer} blocks and nobody takes the rest: add a backend")
    if options.strategy is Strategy.SINGLE_DEVICE:
        chosen = _single_cut(costs, places[1:], options.device)
        return (0, *(max(host_blocks, point) for point in chosen))
    if options.strategy is Strategy.UNIFORM:
        return (0, *uniform_cut(n_layer, n_rest, host_blocks))
    room = _room(costs, places)
    rest = Room(room.budgets[1:], room.speeds[1:], room.pipelined and places[0].name != HOST_DEVICE)
    weight = memory_weight(options)
    return (0, *(balanced_cut(costs, rest, weight, host_blocks) or overfull_cut(costs, rest, host_blocks)))


def _balanced(costs: Costs, places: Sequence[Device], options: PlanOptions) -> Cut:
    """Cut by score; when the host's CPU takes blocks, the devices do not overlap and need less for computing."""
    weight = memory_weight(options)
    room = _room(costs, places)
    with_cpu = replace(room, pipelined=False) if places[0].name == HOST_DEVICE else None
    cut = balanced_cut(costs, with_cpu, weight) if with_cpu else None
    if cut is None or cut[1] == 0:
        cut = balanced_cut(costs, room, weight)
    if cut is None and with_cpu:
        # The first fit fills the CPU: a fit that balancing had moved off the CPU is not lost.
        first_fit = first_fit_cut(costs, with_cpu)
        cut = first_fit if first_fit and first_fit[1] else None
    return cut or _fitting_alone(costs, room) or overfull_cut(costs, room)


def _fitting_alone(costs: Costs, room: Room) -> Cut | None:
    """Return the whole model on the roomiest device, if it fits there: alone it needs no pipeline copies."""
    best = max(range(len(room)), key=lambda index: room.budgets[index])
    cut = _everything_on(best, costs.n_layer + 1, len(room))
    return cut if costs.total(0, costs.n_layer + 1, pipelined=False) <= room.budgets[best] else None


def _single_cut(costs: Costs, places: Sequence[Device], name: str | None) -> Cut:
    names = [device.name for device in places]
    labels = [device.label for device in places]
    if name is None:
        chosen = max(range(len(places)), key=lambda index: places[index].budget_bytes)
    elif name in names or name in labels:
        chosen = names.index(name) if name in names else labels.index(name)
    else:
        raise PlanError(f"there is no device {name!r}, choose one of {', '.join(names)}")
    return _everything_on(chosen, costs.n_layer + 1, len(places))


def _everything_on(chosen: int, stop: int, n_devices: int) -> Cut:
    return tuple(0 if index <= chosen else stop for index in range(n_devices + 1))


def _room(costs: Costs, places: Sequence[Device]) -> Room:
    budgets = (each.budget_bytes - _host_bytes(costs, each) for each in places)
    speeds = tuple(device.speed for device in places)
    return Room(tuple(max(budget, 0) for budget in budgets), speeds, _is_pipelined(costs, places))


def _host_bytes(costs: Costs, device: Device) -> int:
    """Return what a device must hold besides its blocks: on the host's CPU, the token embedding and its rows."""
    if device.name != HOST_DEVICE:
        return 0
    return costs.profile.embedding_bytes + costs.compute_model.host_extra


def _is_pipelined(costs: Costs, used: Sequence[Device]) -> bool:
    """Tell whether llama.cpp overlaps the devices, if the host's CPU holds no block (llama-context.cpp)."""
    return sum(device.name != HOST_DEVICE for device in used) > 1 and costs.workload.split_mode == "layer"


def _assignments(costs: Costs, places: Sequence[Device], cut: Cut) -> tuple[Assignment, ...]:
    runs = [(place, start, stop) for place, (start, stop) in zip(places, pairwise(cut), strict=True) if start < stop]
    used = [place for place, _, _ in runs]
    pipelined = _is_pipelined(costs, used) and all(place.name != HOST_DEVICE for place in used)
    return tuple(_assignment(costs, place, start, stop, pipelined) for place, start, stop in runs)


def _assignment(costs: Costs, device: Device, start: int, stop: int, pipelined: bool) -> Assignment:
    need = costs.need(start, stop, pipelined)
    on_host = device.name == HOST_DEVICE
    return Assignment(
        endpoint=device.endpoint,
        device=device.name,
        index=device.index,
        first_block=start,
        last_block=min(stop, costs.n_layer) - 1,
        has_output=stop > costs.n_layer,
        weights_bytes=need.weights_bytes,
        kv_bytes=need.kv_bytes,
        compute_bytes=need.compute_bytes + (costs.compute_model.host_extra if on_host else 0),
        budget_bytes=device.budget_bytes - (costs.profile.embedding_bytes if on_host else 0),
        share=stop - start,
    )


def _refuse_overfull(assignments: Sequence[Assignment]) -> None:
    short = {each.label: -each.headroom_bytes for each in assignments if each.headroom_bytes < 0}
    if short:
        parts = [f"{remedies.mib(missing)} MiB short on {label}" for label, missing in short.items()]
        raise DoesNotFit(", ".join(parts), short)


def _reason(
    profile: ModelProfile, workload: Workload, options: PlanOptions, assignments: Sequence[Assignment]
) -> tuple[str, ...]:
    fullest = max(assignments, key=lambda each: each.total_bytes / max(each.budget_bytes, 1))
    cells = workload.cells_per_stream(profile)
    used = 100 * fullest.total_bytes / max(fullest.budget_bytes, 1)
    lines = [
        f"strategy {options.strategy}: the fullest device is {fullest.label}, {used:.0f} % of its budget",
        f"KV cache: {profile.n_layer} blocks, {workload.n_streams} x {cells} tokens, "
        f"K {workload.cache_type_k} and V {workload.cache_type_v}: {mib(sum(each.kv_bytes for each in assignments))}",
    ]
    return (*lines, *arithmetic(assignments))

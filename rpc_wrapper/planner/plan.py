"""The plan as a value: who holds what, why, and the command line and JSON it becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar, get_args, get_type_hints

from rpc_wrapper.devices import MIB, Device, Endpoint, parse_endpoint
from rpc_wrapper.errors import ConfigError, DoesNotFit, PlanError
from rpc_wrapper.planner.memory import Workload
from rpc_wrapper.planner.strategies import Strategy

HOST_DEVICE = "CPU"  # llama.cpp's name for what --device cannot name: the server's own processor

UNLIMITED_BYTES = 1 << 62  # the budget of a host about which nothing is known
NO_LIMIT = UNLIMITED_BYTES // 2


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How to plan.

    ``boundaries`` are inclusive block numbers for ``custom``; ``split_layer`` keeps blocks 0..S-1 on the server's own
    device, and ``gpu_layers`` says the same from the other end; ``device`` names the one for ``single_device``.
    """

    strategy: Strategy = Strategy.MEMORY
    memory_weight: float = 0.6
    boundaries: tuple[tuple[int, int], ...] = ()
    split_layer: int | None = None
    gpu_layers: int | None = None
    device: str | None = None
    host_budget_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.memory_weight <= 1:
            raise PlanError(f"memory_weight is {self.memory_weight}, use 0 (time only) to 1 (memory only)")
        if self.boundaries and self.strategy is not Strategy.CUSTOM:
            raise PlanError(f"boundaries are given for strategy {self.strategy}: use strategy custom")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One device's part: blocks ``first_block`` to ``last_block``, both included, and perhaps the output.

    ``share`` is its entry in ``--tensor-split``, ``index`` its number among its endpoint's devices.
    A device with the output only has ``last_block == first_block - 1``. In tensor split mode every device holds a
    share of all blocks. ``kv_bytes`` includes recurrent state.
    """

    endpoint: Endpoint | None
    device: str
    first_block: int
    last_block: int
    has_output: bool
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    budget_bytes: int
    share: int
    index: int = 0

    @property
    def n_blocks(self) -> int:
        """Return how many blocks the device holds."""
        return self.last_block - self.first_block + 1

    @property
    def total_bytes(self) -> int:
        """Return everything it needs."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes

    @property
    def headroom_bytes(self) -> int:
        """Return what stays free of the budget."""
        return self.budget_bytes - self.total_bytes

    @property
    def label(self) -> str:
        """Return what users call the device."""
        if self.endpoint is None:
            return self.device
        return str(self.endpoint) if self.index == 0 else f"{self.endpoint}#{self.index}"

    def to_json(self) -> dict[str, Any]:
        """Return the assignment as plain JSON values."""
        return asdict(self) | {"endpoint": str(self.endpoint) if self.endpoint else None}


@dataclass(frozen=True, slots=True)
class HostPart:
    """What the server's own memory always holds: the token embedding, and a compute buffer for looking tokens up."""

    embedding_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        """Return the sum."""
        return self.embedding_bytes + self.compute_bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """Which device holds which blocks; ``assignments`` are in placement order and hold something each."""

    model: str
    n_layer: int
    strategy: Strategy
    workload: Workload
    n_ctx: int
    assignments: tuple[Assignment, ...]
    host: HostPart
    reason: tuple[str, ...] = ()

    @property
    def offloaded(self) -> tuple[Assignment, ...]:
        """Return the parts that ``--device`` can name: all but the host's CPU."""
        return tuple(each for each in self.assignments if each.device != HOST_DEVICE)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the backends that hold something, in order."""
        return tuple(dict.fromkeys(each.endpoint for each in self.assignments if each.endpoint is not None))

    @property
    def n_gpu_layers(self) -> int:
        """Return ``-ngl``: the slots on devices; the first blocks stay on the host's CPU."""
        on_cpu = sum(each.n_blocks + each.has_output for each in self.assignments if each.device == HOST_DEVICE)
        return self.n_layer + 1 - on_cpu

    def argv(self) -> list[str]:
        """Return the llama-server arguments that make the engine do exactly this.

        The shares of ``--tensor-split`` are slot counts; they add up to ``-ngl``, so the engine's division is exact.
        """
        parts = self.offloaded
        if not parts:
            return ["--device", "none", "-ngl", "0"]
        devices = ",".join(each.device for each in parts)
        shares = ",".join(str(each.share) for each in parts)
        mode = self.workload.split_mode
        return ["--device", devices, "--tensor-split", shares, "-ngl", str(self.n_gpu_layers), "--split-mode", mode]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values; :func:`plan_from_json` reads them back."""
        return {
            "fits": True,
            "model": self.model,
            "n_layer": self.n_layer,
            "strategy": str(self.strategy),
            "workload": asdict(self.workload),
            "n_ctx": self.n_ctx,
            "assignments": [each.to_json() for each in self.assignments],
            "host": asdict(self.host),
            "argv": self.argv(),
            "reason": "\n".join(self.reason),
        }


def refusal_to_json(error: DoesNotFit) -> dict[str, Any]:
    """Return the JSON of a plan that does not exist: how much is missing where, and the ways out."""
    return {
        "fits": False,
        "assignments": [],
        "argv": [],
        "shortfall_bytes": error.shortfall_bytes,
        "remedies": list(error.remedies),
        "reason": str(error),
    }


def outcome_to_json(outcome: Plan | PlanError) -> dict[str, Any]:
    """Return the JSON of a plan, or of the reason why there is none."""
    if isinstance(outcome, Plan):
        return outcome.to_json()
    if isinstance(outcome, DoesNotFit):
        return refusal_to_json(outcome)
    return {"fits": False, "assignments": [], "argv": [], "reason": str(outcome)}


def plan_from_json(value: object) -> Plan:
    """Read a plan back from its JSON values and check it; raise PlanError naming what is wrong."""
    try:
        plan = _read_plan(_object(value))
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise PlanError(f"this is no saved plan: {what}") from None
    check(plan)
    return plan


def _read_plan(value: Mapping[str, Any]) -> Plan:
    if value["fits"] is not True:
        raise ValueError("it says that the model does not fit")
    return Plan(
        model=_typed(value["model"], str),
        n_layer=_typed(value["n_layer"], int),
        strategy=Strategy(value["strategy"]),
        workload=_read(Workload, _object(value["workload"])),
        n_ctx=_typed(value["n_ctx"], int),
        assignments=tuple(_read_assignment(_object(each)) for each in _typed(value["assignments"], list)),
        host=_read(HostPart, _object(value["host"])),
        reason=tuple(_typed(value["reason"], str).splitlines()),
    )


def _read_assignment(value: Mapping[str, Any]) -> Assignment:
    endpoint = value["endpoint"]
    return _read(Assignment, {**value, "endpoint": None if endpoint is None else parse_endpoint(_typed(endpoint, str))})


T = TypeVar("T")


def _read(kind: type[T], value: Mapping[str, Any]) -> T:
    """Build a dataclass from JSON values of exactly its field types."""
    hints = get_type_hints(kind)
    return kind(**{name: _typed(value[name], hint) for name, hint in hints.items()})


def _typed(value: object, hint: Any) -> Any:
    accepted = get_args(hint) or (hint,)
    if not (value in accepted or type(value) in accepted):
        raise ValueError(f"{value!r:.60} stands where {getattr(hint, '__name__', hint)} is needed")
    return value


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r:.60} is not an object")
    return value


def check(plan: Plan) -> None:
    """Raise PlanError unless every slot is on exactly one device and nobody is over budget."""
    _check_budgets(plan)
    if plan.workload.split_mode == "tensor":
        return
    if any(each.device == HOST_DEVICE for each in plan.assignments[1:]):
        raise PlanError("the server's own CPU can hold only the first blocks: name it first, or leave it out")
    next_block, outputs = 0, 0
    for each in plan.assignments:
        if outputs or each.first_block != next_block or each.n_blocks < 0 or each.n_blocks + each.has_output < 1:
            raise PlanError(
                f"{each.label} holds blocks {each.first_block} to {each.last_block}, {next_block} comes next"
            )
        if each.share != each.n_blocks + each.has_output:
            raise PlanError(f"{each.label} has share {each.share} for {each.n_blocks} blocks")
        next_block, outputs = each.last_block + 1, outputs + each.has_output
    if next_block != plan.n_layer or outputs != 1:
        raise PlanError(f"the plan places {next_block} of {plan.n_layer} blocks and {outputs} outputs")


def _check_budgets(plan: Plan) -> None:
    over = {each.label: -each.headroom_bytes for each in plan.assignments if each.headroom_bytes < 0}
    if over:
        label, missing = max(over.items(), key=lambda item: item[1])
        raise DoesNotFit(f"{label} is {-(-missing // MIB)} MiB short for this plan: plan again for these devices", over)


def arithmetic(assignments: Sequence[Assignment]) -> tuple[str, ...]:
    """Return a line per device: what it adds up to, and of how much."""
    return tuple(
        f"{each.label}: weights {mib(each.weights_bytes)} + KV {mib(each.kv_bytes)} + compute "
        f"{mib(each.compute_bytes)} = {mib(each.total_bytes)} of {mib(each.budget_bytes)}"
        for each in assignments
    )


def mib(size_bytes: int) -> str:
    """Write a size in MiB."""
    return "no limit" if size_bytes >= NO_LIMIT else f"{size_bytes / MIB:.1f} MiB"


def remap(plan: Plan, devices: Sequence[Device]) -> Plan:
    """Return the same cut on other devices, in order; raise PlanError on a wrong number, DoesNotFit when short."""
    if len(devices) != len(plan.assignments):
        raise PlanError(f"the plan uses {len(plan.assignments)} devices, {len(devices)} are given")
    pairs = zip(plan.assignments, devices, strict=True)
    moved = tuple(
        replace(
            each, endpoint=device.endpoint, device=device.name, index=device.index, budget_bytes=device.budget_bytes
        )
        for each, device in pairs
    )
    reason = (f"saved plan of strategy {plan.strategy}, moved to other devices", *arithmetic(moved))
    mapped = replace(plan, assignments=moved, reason=reason)
    check(mapped)
    return mapped

"""Read LlamaDistributor's strategy files, so that its experiments run here unchanged.

``{"strategies": [{"name", "num_partitions", "strategy_type", "custom_boundaries", "exit_position", "description"}]}``;
boundaries are inclusive, and ``exit_position`` p runs the first p partitions only (an early exit).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpc_wrapper.devices import Device
from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner.plan import PlanOptions
from rpc_wrapper.planner.strategies import Strategy, uniform_cut

MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class NamedStrategy:
    """One entry of a strategy file."""

    name: str
    n_partitions: int
    strategy: Strategy
    boundaries: tuple[tuple[int, int], ...] = ()
    exit_position: int | None = None
    description: str = ""

    def options(self) -> PlanOptions:
        """Return how to plan it: one partition per device, whether it named one device for all or several."""
        if self.boundaries:
            return PlanOptions(strategy=Strategy.CUSTOM, boundaries=self.boundaries)
        strategy = Strategy.UNIFORM if self.strategy is Strategy.SINGLE_DEVICE else self.strategy
        return PlanOptions(strategy=strategy)

    def devices(self, available: Sequence[Device]) -> tuple[Device, ...]:
        """Return the devices for its partitions; raise PlanError when there are too few."""
        if len(available) < self.n_partitions:
            raise PlanError(f"strategy {self.name!r} has {self.n_partitions} partitions for {len(available)} devices")
        return tuple(available[: self.n_partitions])

    def layers_run(self, n_layer: int) -> int:
        """Return how many of the model's blocks an early exit runs; all of them without one."""
        if self.exit_position is None:
            return n_layer
        if self.boundaries:
            return min(self.boundaries[self.exit_position - 1][1] + 1, n_layer)
        return min(uniform_cut(n_layer, self.n_partitions)[self.exit_position], n_layer)


def read_strategies(path: Path) -> tuple[tuple[NamedStrategy, ...], tuple[str, ...]]:
    """Read a strategy file: its usable entries, and a sentence for each that is skipped; raise PlanError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PlanError(f"{path} has more than {MAX_BYTES} bytes: this is no strategy file")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise PlanError(f"{path} is not JSON: give a strategy file") from None
    if not isinstance(value, dict) or not isinstance(value.get("strategies"), list):
        raise PlanError(f"{path} has no list 'strategies': give a strategy file")
    return _sorted_out(value["strategies"])


def _sorted_out(entries: Sequence[object]) -> tuple[tuple[NamedStrategy, ...], tuple[str, ...]]:
    usable, skipped = [], []
    for number, entry in enumerate(entries, 1):
        try:
            usable.append(_named(entry))
        except (KeyError, TypeError, ValueError, IndexError, PlanError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            skipped.append(f"strategy {number} is skipped: {what}")
    return tuple(usable), tuple(skipped)


def _named(entry: object) -> NamedStrategy:
    if not isinstance(entry, Mapping):
        raise ValueError("it is not an object")
    n_partitions = _whole(entry["num_partitions"], "num_partitions")
    boundaries = tuple((_whole(a, "boundary"), _whole(b, "boundary")) for a, b in entry.get("custom_boundaries") or ())
    exit_position = entry.get("exit_position")
    if n_partitions < 1 or (boundaries and len(boundaries) != n_partitions):
        raise ValueError(f"{len(boundaries)} boundaries for {n_partitions} partitions")
    if exit_position is not None and not 1 <= _whole(exit_position, "exit_position") <= n_partitions:
        raise ValueError(f"exit_position {exit_position} for {n_partitions} partitions")
    kind = Strategy(str(entry.get("strategy_type", "uniform")).lower())
    if kind is Strategy.CUSTOM and not boundaries:
        raise ValueError("strategy custom needs custom_boundaries")
    description = str(entry.get("description") or "")
    return NamedStrategy(str(entry["name"]), n_partitions, kind, boundaries, exit_position, description)


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{what} is {value!r}, not a whole number")
    return value

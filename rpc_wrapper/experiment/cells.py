"""One combination of an experiment's axes, and the command line that makes a cluster of it."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rpc_wrapper.errors import ConfigError
from rpc_wrapper.planner.strategies import Strategy

QUIET_S = 3600  # no canary of the gateway's own meets a measured request
ROOMY_MIB = 65536
MAX_WORKERS = 8  # of `demo`


class Value(BaseModel):
    """Base of what a file describes: unknown names are errors, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Limit(Value):
    """What one process may take: cores it may run on, and memory in MiB."""

    cpus: int | None = Field(default=None, ge=1)
    mem_mib: int | None = Field(default=None, ge=1)


class Limits(Value):
    """Limits of the main node and of each worker."""

    main: Limit = Limit()
    worker: Limit = Limit()


class Cell(Value):
    """One cluster and what is asked of it.

    ``nodes`` counts the places that hold layers. With ``main: computes`` the server's own processor is one of them, so
    one node fewer is a worker; with ``main: serves`` all are workers. ``keep_layers`` runs the first blocks only (an
    early exit). ``latency_s`` is the range of the delay of each message on a ``link``, or of each ``token``.
    """

    workload: str
    model: str
    quant: str = "q4_0"
    keep_layers: int | None = Field(default=None, ge=1)
    nodes: int = Field(default=2, ge=1)
    main: Literal["computes", "serves"] = "serves"
    threads: int = Field(default=1, ge=1)
    latency_s: tuple[float, float] = (0.0, 0.0)
    latency_on: Literal["link", "token"] = "link"
    strategy: Strategy = Strategy.MEMORY
    boundaries: str | None = None
    split_mode: Literal["layer", "tensor"] = "layer"
    parallel: int = Field(default=1, ge=1)
    ctx_size: int = Field(default=512, ge=64)
    limits: Limits = Limits()
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    name: str = ""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        least, most = self.latency_s
        if not 0 <= least <= most:
            raise ValueError(f"latency_s {least:g} to {most:g} is no range: write [0.01, 0.05]")
        if self.split_mode == "tensor" and self.main == "computes":
            raise ValueError("split mode tensor leaves the main node's processor out: use main: serves")
        if self.n_workers > MAX_WORKERS:
            raise ValueError(f"{self.n_workers} workers are more than {MAX_WORKERS}: use fewer nodes")
        return self

    @property
    def n_workers(self) -> int:
        """Return how many workers it takes."""
        return self.nodes - 1 if self.main == "computes" else self.nodes

    @property
    def label(self) -> str:
        """Return its name, or else what tells most about it."""
        return self.name or f"{self.model}-{self.quant}-{self.nodes}-{self.threads}"

    def value_of(self, axis: str) -> str:
        """Return its place on an axis as text."""
        value = getattr(self, axis)
        if axis == "latency_s":
            return f"{value[0]:g}-{value[1]:g}" if value[0] != value[1] else f"{value[0]:g}"
        if axis == "limits":
            return limits_text(value)
        return "" if value is None else str(value)


def limits_text(limits: Limits) -> str:
    """Return limits in a few words, empty without any."""
    texts = {"main": _limit_text(limits.main), "worker": _limit_text(limits.worker)}
    return ", ".join(f"{name} {text}" for name, text in texts.items() if text)


def _limit_text(limit: Limit) -> str:
    cpus = f"{limit.cpus} CPU" if limit.cpus else ""
    mem = f"{limit.mem_mib} MiB" if limit.mem_mib else ""
    return " ".join(text for text in (cpus, mem) if text)


def expand(
    matrix: Mapping[str, list[Any]], defaults: Mapping[str, Any], overrides: Iterable[tuple[Mapping[str, Any], Any]]
) -> list[dict[str, Any]]:
    """Return every combination of the axes as fields of a cell.

    An axis is a field of a cell with its values, or any other name with sets of fields. ``overrides`` are pairs of
    what must hold and what then is set; raises ConfigError for an axis that is neither.
    """
    axes = [[_fields(axis, value) for value in values] for axis, values in matrix.items()]
    found = []
    for combination in product(*axes):
        fields = dict(defaults)
        for part in combination:
            fields |= part
        found.append(override(fields, overrides))
    return found


def override(fields: dict[str, Any], overrides: Iterable[tuple[Mapping[str, Any], Any]]) -> dict[str, Any]:
    """Return the fields with every override that applies; each sees what those before it set."""
    for when, changes in overrides:
        if all(fields.get(name) == value for name, value in when.items()):
            fields = fields | changes
    return fields


def _fields(axis: str, value: object) -> dict[str, Any]:
    if axis in Cell.model_fields:
        return {axis: value}
    if not isinstance(value, dict):
        names = ", ".join(Cell.model_fields)
        raise ConfigError(f"axis {axis!r} is no field of a cell, so each value is a set of fields; the fields: {names}")
    return dict(value)


def cluster_options(cell: Cell, model: Path) -> list[str]:
    """Return the settings of a cell's server as options, the same for a demo and for given backends."""
    options: dict[str, object] = {
        "model": model,
        "threads": cell.threads,
        "parallel": cell.parallel,
        "ctx-size": cell.ctx_size,
        "split-mode": cell.split_mode,
        "strategy": "local" if cell.n_workers == 0 else cell.strategy,
        "canary-s": QUIET_S,
        **({"boundaries": cell.boundaries} if cell.boundaries else {}),
        **_latency(cell),
        **{name.replace("_", "-"): value for name, value in cell.options.items()},
    }
    return [word for name, value in options.items() for word in (f"--{name}", _text(value))]


def demo_options(cell: Cell) -> list[str]:
    """Return the further options of a demo that starts the cell's workers itself."""
    words = ["--backends", str(cell.n_workers), "--mem", str(cell.limits.worker.mem_mib or ROOMY_MIB), "--cache", "off"]
    return words + (["--rpc-backends", "local"] if cell.main == "computes" and cell.n_workers else [])


def backend_options(cell: Cell, backends: list[str]) -> list[str]:
    """Return the further options of a server over the first of these backends; raise ConfigError for too few."""
    if len(backends) < cell.n_workers:
        raise ConfigError(
            f"cell {cell.label} takes {cell.n_workers} workers, --backends gives {len(backends)}: give more"
        )
    used = backends[: cell.n_workers] + (["local"] if cell.main == "computes" else [])
    return ["--rpc-backends", ",".join(used)]


def _latency(cell: Cell) -> dict[str, object]:
    least, most = cell.latency_s
    if most == 0:
        return {}
    if cell.latency_on == "token":
        return {"token-delay-min-s": least, "token-delay-max-s": most}
    return {"latency-min": least, "latency-max": most}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


AXES = tuple(name for name in Cell.model_fields if name not in ("name", "options"))


def chosen(cells: Sequence[Cell], only: Sequence[str]) -> tuple[Cell, ...]:
    """Return the cells for which every ``AXIS=VALUE`` holds; raise ConfigError for an unknown axis or no cell left."""
    for text in only:
        axis, is_pair, value = text.partition("=")
        if not is_pair or axis not in {*AXES, "name"}:
            raise ConfigError(f"--only {text!r} is malformed: write AXIS=VALUE, AXIS one of {', '.join(AXES)}, name")
        cells = [cell for cell in cells if (cell.label if axis == "name" else cell.value_of(axis)) == value]
    if not cells:
        raise ConfigError(f"no cell is left by --only {' --only '.join(only)}: --list prints them all")
    return tuple(cells)

"""What a cell measured, or why it could not be measured; kept as JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from rpc_wrapper.bench.stats import NodeUse, Spread, Summary
from rpc_wrapper.experiment.cells import Cell
from rpc_wrapper.experiment.spec import Experiment


@dataclass(frozen=True, slots=True)
class Row:
    """One cell's outcome; ``error`` says why there are no figures.

    ``start_s`` is from the command to readiness, ``took_s`` everything: making the model, start, measuring, stop.
    """

    key: str
    cell: Cell
    start_s: float | None = None
    figures: dict[str, Spread] = field(default_factory=dict)
    nodes: tuple[NodeUse, ...] = ()
    plan: str = ""
    notes: tuple[str, ...] = ()
    error: str | None = None
    took_s: float = 0.0

    def figure(self, name: str) -> Spread | None:
        """Return a figure by its name, None when it was not measured."""
        if name == "start_s":
            return None if self.start_s is None else Spread(self.start_s, self.start_s, self.start_s)
        return self.figures.get(name)

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self) | {"cell": self.cell.model_dump(mode="json")}, sort_keys=True)


def row_of(cell: Cell, key: str, start_s: float, summary: Summary, about: tuple[str, tuple[str, ...]]) -> Row:
    """Return the row of a measured cell; ``about`` is its plan and the notes about it."""
    return Row(key, cell, start_s, dict(summary.figures), summary.nodes, *about)


def read_rows(lines: Iterable[str]) -> dict[str, Row]:
    """Return the last row of each key; a line that was cut by an interruption is passed over."""
    rows: dict[str, Row] = {}
    for line in lines:
        try:
            value = json.loads(line)
            row = _row(value)
        except (ValueError, TypeError, LookupError):
            continue
        rows[row.key] = row
    return rows


def _row(value: dict[str, Any]) -> Row:
    return Row(
        key=value["key"],
        cell=Cell.model_validate(value["cell"]),
        start_s=value["start_s"],
        figures={name: Spread(**spread) for name, spread in value["figures"].items()},
        nodes=tuple(NodeUse(**use) for use in value["nodes"]),
        plan=value["plan"],
        notes=tuple(value["notes"]),
        error=value["error"],
        took_s=value["took_s"],
    )


def key_of(cell: Cell, experiment: Experiment, backends: str) -> str:
    """Return what makes a cell's measurement the same one: the cell, its model, what is asked how often, and where."""
    parts = [
        cell.model_dump(mode="json"),
        experiment.models[cell.model].model_dump(mode="json"),
        experiment.workloads[cell.workload].model_dump(mode="json"),
        [experiment.repeats, experiment.warm_up, backends],
    ]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

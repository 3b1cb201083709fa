"""Write an experiment down: a row per cell, the seed's figures beside ours, charts over any axis."""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from io import StringIO
from statistics import median
from typing import Any

from rpc_wrapper.bench.chart import Chart, Point
from rpc_wrapper.bench.report import Environment, environment_text, table
from rpc_wrapper.bench.stats import NodeUse, Spread
from rpc_wrapper.devices import MIB
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.experiment.cells import AXES, Cell
from rpc_wrapper.experiment.row import Row
from rpc_wrapper.experiment.spec import FIGURES, ChartSpec, Experiment, Seed

FORMS = {
    "throughput": ("tok/s", ".2f"),
    "prompt": ("prompt tok/s", ".1f"),
    "generation": ("generation tok/s", ".2f"),
    "ttft_ms": ("TTFT ms", ".0f"),
    "ttlt_ms": ("TTLT ms", ".0f"),
    "ms_per_token": ("ms per token", ".1f"),
    "cpu_ms_per_token": ("own CPU ms per token", ".2f"),
    "bytes_per_token": ("link bytes per token", ".0f"),
    "late_early": ("last 5 steps / steps 2-6", ".2f"),
    "start_s": ("start s", ".1f"),
}
SHOWN = ("start_s", "prompt", "generation", "ttft_ms", "ms_per_token", "bytes_per_token", "late_early")
_CHART = re.compile(r"(?P<figure>\w+) over (?P<over>\w+)(?: by (?P<by>\w+(?:,\w+)*))?")


def to_markdown(experiment: Experiment, rows: Sequence[Row], environment: Environment, pictures: Sequence[str]) -> str:
    """Return everything for people; ``pictures`` are the names of the charts' files beside it."""
    parts = [f"# {experiment.name}", experiment.about.strip(), _cells(rows), _same(rows)]
    parts += [_failures(rows), _remarks(rows)]
    parts += [seed_markdown(experiment.seed, rows)] if experiment.seed else []
    parts += [f"![{name}]({name})" for name in pictures]
    parts += ["\n".join(f"- {note}" for note in experiment.notes)]
    repeats = f"{experiment.repeats} repeats after {experiment.warm_up} for warm-up, medians; "
    explained = (
        "generation leaves the first token out; peak memory is resident memory, mapped model files included; "
        "CPU 100 % is one core; start is from the command to the first token."
    )
    took = f" The cells took {sum(row.took_s for row in rows) / 60:.1f} minutes together."
    parts += [repeats + explained + took, environment_text(environment)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(rows: Sequence[Row]) -> str:
    varying = _varying(rows)
    figures = [name for name in SHOWN if any(row.figure(name) for row in rows)]
    headings = (
        "cell",
        *varying,
        *(FORMS[name][0] for name in figures),
        "CPU % main / worker",
        "peak MiB main / worker",
    )
    return table(headings, [_cell(row, varying, figures) for row in rows])


def _cell(row: Row, axes: Iterable[str], figures: Iterable[str]) -> list[str]:
    values = [row.cell.value_of(axis) or "-" for axis in axes]
    measured = [_shown(row.figure(name), FORMS[name][1]) for name in figures]
    cpu = _main_and_worker(row.nodes, lambda use: use.cpu_percent)
    peak = _main_and_worker(row.nodes, lambda use: use.peak_rss_bytes / MIB)
    return [row.cell.label, *values, *measured, cpu, peak]


def _main_and_worker(nodes: Sequence[NodeUse], value: Callable[[NodeUse], float]) -> str:
    """Return the sum over the main node's processes, and the most that a worker took."""
    if not nodes:
        return "-"
    workers = [value(use) for use in nodes if use.name.startswith("worker")]
    main = sum(value(use) for use in nodes if not use.name.startswith("worker"))
    return f"{main:.0f} / {max(workers):.0f}" if workers else f"{main:.0f} / -"


def _varying(rows: Sequence[Row]) -> list[str]:
    return [axis for axis in AXES if len({row.cell.value_of(axis) for row in rows}) > 1]


def _same(rows: Sequence[Row]) -> str:
    """Return in a line what is the same in every cell."""
    varying = _varying(rows)
    same = [
        f"{axis} {rows[0].cell.value_of(axis)}" for axis in AXES if axis not in varying and rows[0].cell.value_of(axis)
    ]
    return f"In every cell: {', '.join(same)}." if same else ""


def _failures(rows: Sequence[Row]) -> str:
    failed = [f"- {row.cell.label}: {row.error}" for row in rows if row.error]
    return "Not measured:\n\n" + "\n".join(failed) if failed else ""


def _remarks(rows: Sequence[Row]) -> str:
    return "\n".join(f"- {row.cell.label}: {note}" for row in rows for note in row.notes)


def _shown(value: Spread | None, form: str) -> str:
    return "-" if value is None else f"{value.median:{form}}"


def seed_markdown(seed: Seed, rows: Sequence[Row]) -> str:
    """Return the published figures beside ours, each also in relation to its own baseline."""
    ours = {row.cell.label: row for row in rows}
    base = next((each for each in seed.rows if each.what == seed.baseline), None)
    cells = []
    for each in seed.rows:
        for name, published in each.figures.items():
            unit, form = FORMS[name]
            measured = ours[each.cell].figure(name) if each.cell in ours else None
            before = ours[base.cell].figure(name) if base and base.cell in ours else None
            theirs = _ratio(published, base.figures.get(name) if base else None)
            ratio = _ratio(measured.median, before.median) if measured and before else "-"
            line = [f"{each.what}, {unit}", f"{published:{form}}", _shown(measured, form)]
            cells.append([*line, theirs, ratio] if base else line)
    headings = ["", seed.source, "here"] + (["of its baseline", "of ours"] if base else [])
    return f"Beside the figures of {seed.source} ({seed.hardware}):\n\n{table(headings, cells)}"


def _ratio(value: float, base: float | None) -> str:
    return f"{value / base:.2f}" if base else "-"


def to_csv(rows: Sequence[Row]) -> str:
    """Return a line per cell: its axes, the median and interval of every figure, its nodes and its plan."""
    lines = [_flat(row) for row in rows]
    text = StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {"cell": row.cell.label, **{axis: row.cell.value_of(axis) for axis in AXES}}
    for name in FIGURES:
        value = row.figure(name)
        line |= {name: value and value.median, f"{name}_low": value and value.low, f"{name}_high": value and value.high}
    for use in row.nodes:
        line |= {f"{use.name} cpu_percent": use.cpu_percent, f"{use.name} peak_rss_bytes": use.peak_rss_bytes}
    return line | {"plan": row.plan, "error": row.error}


def to_json(experiment: Experiment, rows: Sequence[Row], environment: Environment) -> dict[str, Any]:
    """Return plain values for ``json.dumps``."""
    return {
        "experiment": experiment.name,
        "environment": asdict(environment),
        "seed": experiment.seed.model_dump(mode="json") if experiment.seed else None,
        "rows": [asdict(row) | {"cell": row.cell.model_dump(mode="json")} for row in rows],
    }


def parse_chart(text: str) -> ChartSpec:
    """Parse ``FIGURE over AXIS [by AXIS,AXIS]``; raise ConfigError."""
    match = _CHART.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"chart {text!r} is malformed: write for example 'generation over nodes by model,quant'")
    by = tuple(match["by"].split(",")) if match["by"] else ()
    unknown = ({match["over"], *by} - {*AXES, "name"}) | ({match["figure"]} - set(FIGURES))
    if unknown:
        raise ConfigError(
            f"chart {text!r} names {', '.join(sorted(unknown))}: the figures are {', '.join(FIGURES)}, "
            f"the axes {', '.join((*AXES, 'name'))}"
        )
    return ChartSpec(figure=match["figure"], over=match["over"], by=by)


def chart_of(spec: ChartSpec, rows: Sequence[Row]) -> Chart:
    """Return a chart's points; cells that share a place are summed up by their median, from least to most."""
    chosen = [row for row in rows if _holds(row.cell, spec.where) and row.figure(spec.figure)]
    positions = _ordered({_place(row.cell, spec.over): None for row in chosen})
    series: dict[str, list[Point | None]] = {}
    for name in dict.fromkeys(_name(row.cell, spec.by) for row in chosen):
        each = [row for row in chosen if _name(row.cell, spec.by) == name]
        series[name] = [
            _point([row for row in each if _place(row.cell, spec.over) == at], spec.figure) for at in positions
        ]
    unit = FORMS[spec.figure][0]
    title = spec.title or f"{unit} over {spec.over}"
    return Chart(
        title,
        unit,
        tuple(positions),
        {name: tuple(points) for name, points in series.items()},
        "" if spec.over == "name" else spec.over,
    )


def _holds(cell: Cell, where: dict[str, Any]) -> bool:
    return all(cell.value_of(name) == str(value) for name, value in where.items())


def _place(cell: Cell, axis: str) -> str:
    return cell.label if axis == "name" else cell.value_of(axis)


def _name(cell: Cell, by: Sequence[str]) -> str:
    return " ".join(_place(cell, axis) for axis in by) or "all"


def _ordered(positions: Iterable[str]) -> list[str]:
    """Sort numbers by size, and leave words as they came."""
    found = list(positions)
    try:
        return sorted(found, key=float)
    except ValueError:
        return found


def _point(rows: Sequence[Row], figure: str) -> Point | None:
    values = [value for row in rows if (value := row.figure(figure))]
    if not values:
        return None
    return Point(median(v.median for v in values), min(v.low for v in values), max(v.high for v in values))

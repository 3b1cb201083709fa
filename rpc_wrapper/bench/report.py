"""Write results down: Markdown and charts for people, JSON and CSV with every round for programs."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from itertools import groupby
from typing import Any

from rpc_wrapper.bench.chart import Chart, Point
from rpc_wrapper.bench.stats import (
    Comparison,
    Percentiles,
    Round,
    Spread,
    Summary,
    compare,
    figures_of,
    spread,
    summarise,
)
from rpc_wrapper.devices import MIB


@dataclass(frozen=True, slots=True)
class Environment:
    """Where and how it was measured; ``busy_before`` and ``busy_after`` are the machine's CPU use (0 to 1) while
    the targets were idle: what something else took of the processor. ``plans`` say which target holds what where."""

    command: str
    cpu: str
    cores: float
    memory_mib: int
    system: str
    python: str
    engine: str
    git_revision: str
    date: str
    busy_before: float
    busy_after: float
    plans: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """Everything of one run; the first target of each workload is the baseline of the others.

    ``lifetimes`` are seconds of starts and recoveries, by target and by what happened.
    """

    rounds: tuple[Round, ...]
    lifetimes: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    def by_workload(self) -> dict[str, dict[str, list[Round]]]:
        """Return the rounds of each target of each workload, in the order of their first rounds."""
        sorted_rounds: dict[str, dict[str, list[Round]]] = {}
        for one in sorted(self.rounds, key=lambda one: one.repeat):
            sorted_rounds.setdefault(one.workload, {}).setdefault(one.target, []).append(one)
        return sorted_rounds

    def summaries(self) -> list[Summary]:
        """Return one summary per workload and target."""
        return [summarise(rounds) for targets in self.by_workload().values() for rounds in targets.values()]

    def comparisons(self) -> list[Comparison]:
        """Return every further target against the first, per workload."""
        found: list[Comparison] = []
        for targets in self.by_workload().values():
            baseline, *others = targets.values()
            found += [compare(rounds, baseline) for rounds in others]
        return found


def to_json(result: Result, environment: Environment) -> dict[str, Any]:
    """Return plain values for ``json.dumps``; rates in tokens per second, times with their unit in the name."""
    return {
        "environment": asdict(environment),
        "summaries": [asdict(summary) for summary in result.summaries()],
        "comparisons": [asdict(comparison) for comparison in result.comparisons()],
        "lifetimes_s": {target: dict(times) for target, times in result.lifetimes.items()},
        "rounds": [
            {"target": one.target, "workload": one.workload, "repeat": one.repeat, **asdict(figures_of(one))}
            for one in result.rounds
        ],
    }


def to_csv(result: Result) -> str:
    """Return a line per round, its figures under their names with units; unknown ones are empty."""
    rows = [
        {"target": one.target, "workload": one.workload, "repeat": one.repeat, **asdict(figures_of(one))}
        for one in result.rounds
    ]
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["target"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_charts(result: Result) -> list[Chart]:
    """Return a chart per figure people compare: a group of bars per workload, a bar per target."""
    summaries = result.summaries()
    workloads = tuple(dict.fromkeys(summary.workload for summary in summaries))
    targets = tuple(dict.fromkeys(summary.target for summary in summaries))
    known = {(summary.workload, summary.target): summary.figures for summary in summaries}
    return [
        Chart(
            title,
            unit,
            workloads,
            {
                target: tuple(_point(known.get((each, target), {}).get(name)) for each in workloads)
                for target in targets
            },
        )
        for name, title, unit in CHARTED
    ]


CHARTED = (
    ("throughput", "Throughput", "tokens/s"),
    ("generation", "Generation", "tokens/s"),
    ("ttft_ms", "Time to first token", "ms"),
    ("ms_per_token", "Time per token", "ms"),
)


def _point(value: Spread | None) -> Point | None:
    return Point(value.median, value.low, value.high) if value else None


def to_markdown(result: Result, environment: Environment) -> str:
    """Return the tables, workload by workload, and the environment under them."""
    comparisons = {(one.workload, one.target): one for one in result.comparisons()}
    parts: list[str] = []
    for workload, summaries in groupby(result.summaries(), key=lambda summary: summary.workload):
        rows = list(summaries)
        parts.append(f"**{workload}** ({rows[0].repeats} repeats)\n\n{table(SUMMARY_HEADINGS, map(_summary, rows))}")
        compared = [comparisons[workload, row.target] for row in rows if (workload, row.target) in comparisons]
        if compared:
            parts.append(table(COMPARISON_HEADINGS, map(_comparison, compared)))
        if nodes := _nodes(rows):
            parts.append(table(NODE_HEADINGS, nodes))
    if lives := _lifetimes(result):
        parts.append(table(("starts and recoveries", "seconds", "times"), lives))
    brackets = "In brackets: 95 % confidence interval of the median."
    return "\n\n".join([*parts, brackets, environment_text(environment)]) + "\n"


SUMMARY_HEADINGS = (
    "target",
    "tok/s",
    "prompt tok/s",
    "generation tok/s",
    "TTFT ms p50 / p95 / p99",
    "ITL ms p50 / p95 / p99",
    "TTLT ms p50 / p95 / p99",
    "own CPU ms per token",
    "link kB per token",
)
NODE_HEADINGS = ("target: process", "CPU %", "peak memory MiB")
COMPARISON_HEADINGS = (
    "against the baseline",
    "tok/s",
    "prompt tok/s",
    "generation tok/s",
    "added TTFT ms",
    "added ms per token",
)


def _summary(summary: Summary) -> list[str]:
    figures = summary.figures
    carried = figures.get("bytes_per_token")
    return [
        summary.target,
        *(_interval(figures.get(name), ".2f") for name in ("throughput", "prompt", "generation")),
        *(_three(values) for values in (summary.ttft_ms, summary.itl_ms, summary.ttlt_ms)),
        _interval(figures.get("cpu_ms_per_token"), ".3f"),
        f"{carried.median / 1000:.1f}" if carried else "-",
    ]


def _nodes(summaries: Iterable[Summary]) -> list[list[str]]:
    return [
        [f"{summary.target}: {use.name}", f"{use.cpu_percent:.0f}", f"{use.peak_rss_bytes / MIB:.0f}"]
        for summary in summaries
        for use in summary.nodes
    ]


def _lifetimes(result: Result) -> list[list[str]]:
    return [
        [f"{target}: {what}", _interval(spread(seconds), ".2f"), str(len(seconds))]
        for target, times in result.lifetimes.items()
        for what, seconds in times.items()
    ]


def _comparison(comparison: Comparison) -> list[str]:
    ratios = [_interval(comparison.ratios.get(name), ".3f") for name in ("throughput", "prompt", "generation")]
    added = [_interval(comparison.added_ms.get(name), "+.3f") for name in ("ttft_ms", "ms_per_token")]
    return [f"{comparison.target} / {comparison.baseline}", *ratios, *added]


def _interval(value: Spread | None, form: str) -> str:
    return f"{value.median:{form}} [{value.low:{form}}, {value.high:{form}}]" if value else "-"


def _three(value: Percentiles | None) -> str:
    return f"{value.p50:.2f} / {value.p95:.2f} / {value.p99:.2f}" if value else "-"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def environment_text(environment: Environment) -> str:
    """Return the environment as Markdown, the exact command last."""
    e = environment
    facts = (
        f"{e.date}, revision {e.git_revision}; {e.cpu}, {e.cores:g} cores, {e.memory_mib} MiB, {e.system}, "
        f"Python {e.python}, llama.cpp {e.engine}; the processor was {e.busy_before:.0%} busy with other things before "
        f"and {e.busy_after:.0%} after"
    )
    plans = "".join(f"\n- {name}: {plan}" for name, plan in e.plans.items())
    plans = f"\n\nPlans:\n{plans}" if plans else ""
    return f"{facts}.{plans}\n\n    {e.command}"

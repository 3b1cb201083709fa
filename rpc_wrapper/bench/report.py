"""Write results down: Markdown for people, JSON with every round for programs."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from rpc_wrapper.bench.stats import Comparison, Percentiles, Round, Spread, Summary, compare, figures_of, summarise


@dataclass(frozen=True, slots=True)
class Environment:
    """Where and how it was measured; ``busy_before`` and ``busy_after`` are the machine's CPU use (0 to 1) while
    the targets were idle: what something else took of the processor."""

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


@dataclass(frozen=True, slots=True)
class Result:
    """Everything of one run; the first target of each workload is the baseline of the others."""

    rounds: tuple[Round, ...]

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
        "rounds": [
            {"target": one.target, "workload": one.workload, "repeat": one.repeat, **asdict(figures_of(one))}
            for one in result.rounds
        ],
    }


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
    brackets = "In brackets: 95 % confidence interval of the median."
    return "\n\n".join([*parts, brackets, environment_text(environment)]) + "\n"


SUMMARY_HEADINGS = (
    "target",
    "tok/s",
    "prompt tok/s",
    "generation tok/s",
    "TTFT ms p50 / p95 / p99",
    "ITL ms p50 / p95 / p99",
    "TTLT ms p50",
    "own CPU ms per token",
)
COMPARISON_HEADINGS = (
    "against the baseline",
    "tok/s",
    "prompt tok/s",
    "generation tok/s",
    "added TTFT ms",
    "added ms per token",
)


def _summary(summary: Summary) -> list[str]:
    rates = [_interval(summary.figures[name], ".2f") for name in ("throughput", "prompt", "generation")]
    cpu = summary.figures.get("cpu_ms_per_token")
    return [
        summary.target,
        *rates,
        _three(summary.ttft_ms),
        _three(summary.itl_ms),
        f"{summary.ttlt_ms.p50:.1f}",
        _interval(cpu, ".3f") if cpu else "-",
    ]


def _comparison(comparison: Comparison) -> list[str]:
    ratios = [_interval(comparison.ratios[name], ".3f") for name in ("throughput", "prompt", "generation")]
    added = [_interval(comparison.added_ms[name], "+.3f") for name in ("ttft_ms", "ms_per_token")]
    return [f"{comparison.target} / {comparison.baseline}", *ratios, *added]


def _interval(value: Spread, form: str) -> str:
    return f"{value.median:{form}} [{value.low:{form}}, {value.high:{form}}]"


def _three(value: Percentiles) -> str:
    return f"{value.p50:.2f} / {value.p95:.2f} / {value.p99:.2f}"


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
    return f"{facts}.\n\n    {e.command}"

"""Figures of rounds, their spread over repeats, and how one target compares with another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from statistics import median

from rpc_wrapper.bench.stream import Answer

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class NodeUse:
    """What one process took in a round: processor time per time (100 is one core), and its peak of resident memory."""

    name: str
    cpu_percent: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Round:
    """One workload done once by one target; ``cpu_s`` is the processor time that the target's own process took.

    ``nodes`` are the target's processes as far as they run here, ``link_bytes`` what its links carried both ways.
    """

    target: str
    workload: str
    repeat: int
    answers: tuple[Answer, ...]
    cpu_s: float | None = None
    nodes: tuple[NodeUse, ...] = ()
    link_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What one round comes down to.

    ``throughput``: generated tokens per second of the whole round. ``prompt``: prompt tokens per second of the time
    in which at least one answer waited for its first token. ``generation``: tokens after the first per second of the
    time in which at least one answer was being generated. ``ttft_ms`` and ``ms_per_token`` are medians over the
    round's answers; the latter is an answer's time from its first to its last token, per token. ``cpu_ms_per_token`` is
    None when the target's process is not known, ``bytes_per_token`` (what the links carried, prompts included, per
    generated token) when it has no links that tell. ``late_early`` is how much longer the last five steps of an answer
    took than its steps 2 to 6, None for answers too short to have both.
    """

    throughput: float
    prompt: float
    generation: float | None
    ttft_ms: float
    ttlt_ms: float
    ms_per_token: float | None
    cpu_ms_per_token: float | None
    bytes_per_token: float | None
    late_early: float | None


@dataclass(frozen=True, slots=True)
class Spread:
    """A median over repeats and the interval that holds the true one with 95 % confidence.

    The interval is between order statistics, so it assumes nothing about the distribution; under six repeats it is
    simply the smallest and the largest, and its confidence is less.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of all values of all repeats together, in the unit of the values."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Summary:
    """All rounds of one target and workload."""

    target: str
    workload: str
    repeats: int
    figures: dict[str, Spread]
    ttft_ms: Percentiles
    itl_ms: Percentiles | None
    ttlt_ms: Percentiles
    nodes: tuple[NodeUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """One target against the baseline, repeat by repeat: ratios of the rates, differences of the times."""

    target: str
    baseline: str
    workload: str
    ratios: dict[str, Spread]
    added_ms: dict[str, Spread]


RATES = ("throughput", "prompt", "generation")
TIMES = ("ttft_ms", "ttlt_ms", "ms_per_token")


def figures_of(one: Round) -> Figures:
    """Return the figures of one round."""
    answers = one.answers
    tokens = sum(len(answer.token_at_s) for answer in answers)
    later = tokens - len(answers)
    began_s = min(answer.sent_s for answer in answers)
    ended_s = max(answer.token_at_s[-1] for answer in answers)
    waiting_s = covered([(answer.sent_s, answer.token_at_s[0]) for answer in answers])
    generating_s = covered([(answer.token_at_s[0], answer.token_at_s[-1]) for answer in answers])
    return Figures(
        throughput=_rate(tokens, ended_s - began_s),
        prompt=_rate(sum(answer.prompt_tokens for answer in answers), waiting_s),
        generation=_rate(later, generating_s) if later else None,
        ttft_ms=1000 * median(answer.ttft_s for answer in answers),
        ttlt_ms=1000 * median(answer.ttlt_s for answer in answers),
        ms_per_token=_ms_per_token(answers),
        cpu_ms_per_token=None if one.cpu_s is None else 1000 * one.cpu_s / tokens,
        bytes_per_token=None if one.link_bytes is None else one.link_bytes / tokens,
        late_early=_late_early(answers),
    )


def _ms_per_token(answers: Sequence[Answer]) -> float | None:
    per_token_s = [(a.ttlt_s - a.ttft_s) / (len(a.token_at_s) - 1) for a in answers if len(a.token_at_s) > 1]
    return 1000 * median(per_token_s) if per_token_s else None


STEPS = 5  # LlamaDistributor's: the mean of the last five steps over that of steps 2 to 6


def _late_early(answers: Sequence[Answer]) -> float | None:
    gaps = [answer.itl_s for answer in answers if len(answer.token_at_s) > 2 * STEPS]
    ratios = [sum(each[-STEPS:]) / sum(each[:STEPS]) for each in gaps if sum(each[:STEPS]) > 0]
    return median(ratios) if ratios else None


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else math.inf


def covered(intervals: Sequence[tuple[float, float]]) -> float:
    """Return how much time a union of intervals covers."""
    total = 0.0
    until = -math.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def spread(values: Sequence[float]) -> Spread:
    """Return the median of at least one value and its confidence interval."""
    ordered = sorted(values)
    rank = interval_rank(len(ordered))
    return Spread(median(ordered), ordered[rank], ordered[-1 - rank])


def interval_rank(count: int) -> int:
    """Return how many values lie outside the median's confidence interval at each end (David & Nagaraja, 7.1).

    Whether a value is below the true median is a fair coin, so the interval between the k-th smallest and the k-th
    largest misses it with twice the probability of fewer than k heads.
    """
    rank, missed = 0, 2 * 0.5**count
    while missed + 2 * math.comb(count, rank + 1) * 0.5**count <= 1 - CONFIDENCE:
        rank += 1
        missed += 2 * math.comb(count, rank) * 0.5**count
    return rank


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of sorted values lie, interpolated between neighbours."""
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def percentiles(values: Sequence[float]) -> Percentiles:
    """Return the three percentiles of at least one value."""
    ordered = sorted(values)
    return Percentiles(*(percentile(ordered, share) for share in (0.50, 0.95, 0.99)))


def summarise(rounds: Sequence[Round]) -> Summary:
    """Return the summary of rounds that share their target and workload."""
    per_round = [figures_of(one) for one in rounds]
    answers = list(chain.from_iterable(one.answers for one in rounds))
    gaps_ms = [1000 * gap for answer in answers for gap in answer.itl_s]
    return Summary(
        target=rounds[0].target,
        workload=rounds[0].workload,
        repeats=len(rounds),
        figures=_spreads(per_round),
        ttft_ms=percentiles([1000 * answer.ttft_s for answer in answers]),
        itl_ms=percentiles(gaps_ms) if gaps_ms else None,
        ttlt_ms=percentiles([1000 * answer.ttlt_s for answer in answers]),
        nodes=_nodes(rounds),
    )


def _nodes(rounds: Sequence[Round]) -> tuple[NodeUse, ...]:
    """Return each node's median load and highest peak."""
    uses: dict[str, list[NodeUse]] = {}
    for use in chain.from_iterable(one.nodes for one in rounds):
        uses.setdefault(use.name, []).append(use)
    return tuple(
        NodeUse(name, median(use.cpu_percent for use in each), max(use.peak_rss_bytes for use in each))
        for name, each in uses.items()
    )


def _spreads(per_round: Sequence[Figures]) -> dict[str, Spread]:
    values = {field.name: [getattr(figures, field.name) for figures in per_round] for field in fields(Figures)}
    return {name: spread(known) for name, known in values.items() if None not in known}


def compare(rounds: Sequence[Round], baseline: Sequence[Round]) -> Comparison:
    """Compare a target's rounds with the baseline's rounds of the same repeats, which ran right beside them."""
    before = {one.repeat: figures_of(one) for one in baseline}
    pairs = [(figures_of(one), before[one.repeat]) for one in rounds]
    known = [
        name for name in (*RATES, *TIMES) if all(None not in (getattr(a, name), getattr(b, name)) for a, b in pairs)
    ]
    return Comparison(
        target=rounds[0].target,
        baseline=baseline[0].target,
        workload=rounds[0].workload,
        ratios={
            name: spread([getattr(a, name) / getattr(b, name) for a, b in pairs]) for name in RATES if name in known
        },
        added_ms={
            name: spread([getattr(a, name) - getattr(b, name) for a, b in pairs]) for name in TIMES if name in known
        },
    )

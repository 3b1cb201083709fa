"""Rates, percentiles, intervals and comparisons, on numbers one can check by hand."""

import math
from fractions import Fraction
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.bench.stats import (
    NodeUse,
    Round,
    compare,
    covered,
    figures_of,
    interval_rank,
    percentile,
    percentiles,
    spread,
    summarise,
)
from rpc_wrapper.bench.stream import Answer

# Sent at 0, first token after 2 s, then one per second; and one a second later.
ONE = Answer(0.0, (2.0, 3.0, 4.0, 5.0), prompt_tokens=10)
TWO = Answer(1.0, (4.0, 5.0, 6.0, 7.0), prompt_tokens=10)


def one(*answers: Answer, cpu_s: float | None = None) -> Round:
    return Round("t", "w", 0, answers, cpu_s)


finite = st.floats(-1e6, 1e6)


def scaled(answer: Answer, factor: float) -> Answer:
    return Answer(answer.sent_s * factor, tuple(at * factor for at in answer.token_at_s), answer.prompt_tokens)


def test_the_figures_of_one_answer():
    figures = figures_of(one(ONE))
    assert figures.throughput == pytest.approx(4 / 5)
    assert figures.prompt == pytest.approx(10 / 2)
    assert figures.generation == pytest.approx(3 / 3)
    assert (figures.ttft_ms, figures.ttlt_ms, figures.ms_per_token) == pytest.approx((2000, 5000, 1000))


def test_the_processor_time_is_per_token_and_may_be_unknown():
    assert figures_of(one(ONE, TWO, cpu_s=0.4)).cpu_ms_per_token == pytest.approx(50)
    assert figures_of(one(ONE)).cpu_ms_per_token is None
    assert summarise([one(ONE, cpu_s=0.4)]).figures["cpu_ms_per_token"].median == pytest.approx(100)
    assert "cpu_ms_per_token" not in summarise([one(ONE, cpu_s=0.4), one(ONE)]).figures


def test_overlapping_answers_share_their_time():
    figures = figures_of(one(ONE, TWO))
    assert figures.throughput == pytest.approx(8 / 7)
    assert figures.prompt == pytest.approx(20 / 4)  # somebody waited from 0 to 4
    assert figures.generation == pytest.approx(6 / 5)  # somebody generated from 2 to 7
    assert figures.ttft_ms == pytest.approx(2500)


def test_time_in_which_nothing_was_asked_does_not_slow_a_rate():
    late = Answer(100.0, (102.0, 103.0, 104.0, 105.0), prompt_tokens=10)
    assert figures_of(one(ONE, late)).generation == figures_of(one(ONE)).generation


@pytest.mark.parametrize(
    ("intervals", "total"),
    [([], 0), ([(1, 3)], 2), ([(1, 3), (2, 5)], 4), ([(0, 1), (2, 3)], 2), ([(0, 9), (2, 3)], 9), ([(1, 1)], 0)],
)
def test_covered(intervals, total):
    assert covered(intervals) == total


@given(st.lists(st.sets(st.integers(0, 30), min_size=1)))
def test_covered_counts_every_second_once(sets):
    intervals = [(float(min(values)), float(max(values))) for values in sets]
    seconds = {second for start, end in intervals for second in range(int(start), int(end))}
    assert covered(intervals) == len(seconds)


@pytest.mark.parametrize(("share", "value"), [(0, 10), (0.5, 20), (0.75, 25), (1, 30)])
def test_percentile_interpolates(share, value):
    assert percentile([10, 20, 30], share) == value


@given(st.lists(finite, min_size=1))
def test_percentiles_are_ordered_and_within(values):
    found = percentiles(values)
    assert min(values) <= found.p50 <= found.p95 <= found.p99 <= max(values)
    assert found.p50 == pytest.approx(median(values))


@pytest.mark.parametrize(("count", "rank"), [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (20, 5), (100, 39)])
def test_the_rank_is_that_of_the_tables(count, rank):
    assert interval_rank(count) == rank


@given(st.integers(6, 200))
def test_the_interval_is_as_narrow_as_its_confidence_allows(count):
    def confidence(rank: int) -> Fraction:
        return 1 - 2 * sum((Fraction(math.comb(count, k), 2**count) for k in range(rank + 1)), Fraction())

    rank = interval_rank(count)
    assert confidence(rank) >= Fraction(95, 100) > confidence(rank + 1)


@given(st.lists(finite, min_size=1))
def test_the_interval_holds_the_median(values):
    found = spread(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)


def test_a_comparison_pairs_rounds_of_the_same_repeat():
    """The machine slows down tenfold, but the target is always twice as slow as the baseline beside it."""
    factors = (1.0, 10.0, 3.0)
    baseline = [Round("direct", "w", n, (scaled(ONE, factor),)) for n, factor in enumerate(factors)]
    rounds = [Round("gateway", "w", n, (scaled(ONE, 2 * factor),)) for n, factor in enumerate(factors)]
    comparison = compare(list(reversed(rounds)), baseline)
    ratio = comparison.ratios["throughput"]
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert comparison.added_ms["ttft_ms"].median == pytest.approx(3 * 2000)
    assert (comparison.target, comparison.baseline) == ("gateway", "direct")


def test_a_summary_pools_the_latencies_and_spreads_the_rates():
    summary = summarise([Round("direct", "w", n, (scaled(ONE, n + 1.0),)) for n in range(3)])
    assert summary.repeats == 3
    assert summary.figures["generation"].median == pytest.approx(1 / 2)
    assert summary.itl_ms is not None
    assert summary.itl_ms.p50 == pytest.approx(2000)
    assert summary.ttft_ms.p50 == pytest.approx(4000)


def test_an_answer_of_one_token_has_no_time_between_tokens():
    embedded = Answer(0.0, (2.0,), prompt_tokens=8)
    figures = figures_of(one(embedded, embedded))
    assert (figures.throughput, figures.prompt) == pytest.approx((1.0, 8.0))
    assert (figures.generation, figures.ms_per_token, figures.late_early) == (None, None, None)
    summary = summarise([one(embedded)])
    assert summary.itl_ms is None
    assert "generation" not in summary.figures


def test_what_links_carried_is_shared_out_over_generated_tokens():
    assert figures_of(Round("t", "w", 0, (ONE,), link_bytes=4000)).bytes_per_token == pytest.approx(1000)
    assert figures_of(one(ONE)).bytes_per_token is None


def test_late_steps_are_set_in_relation_to_early_ones():
    steady = Answer(0.0, tuple(float(n) for n in range(1, 21)), 1)
    slower = Answer(0.0, tuple(float(n) if n <= 10 else 10.0 + 2 * (n - 10) for n in range(1, 21)), 1)
    assert figures_of(one(steady)).late_early == pytest.approx(1.0)
    assert figures_of(one(slower)).late_early == pytest.approx(2.0)
    assert figures_of(one(ONE)).late_early is None


def test_a_node_is_its_median_load_and_its_highest_peak():
    rounds = [
        Round("t", "w", number, (ONE,), nodes=(NodeUse("worker 1", load, peak),))
        for number, (load, peak) in enumerate([(10.0, 5), (30.0, 9), (20.0, 7)])
    ]
    assert summarise(rounds).nodes == (NodeUse("worker 1", 20.0, 9),)

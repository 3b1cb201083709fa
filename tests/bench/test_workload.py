"""Exact lengths, reproducible prompts, arrivals of the asked rate."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.bench.workload import Workload, arrivals, make_requests, order
from rpc_wrapper.errors import ConfigError

VOCABULARY = [11, 12, 13, 14]

workloads = st.builds(
    Workload,
    prompt_tokens=st.integers(1, 20),
    n_predict=st.integers(2, 20),
    streams=st.integers(1, 5),
    requests=st.integers(1, 4),
    rate_per_s=st.none() | st.floats(0.1, 100),
)


@given(workloads, st.integers())
def test_every_request_has_exactly_what_was_asked_for(workload, seed):
    lanes = make_requests(workload, VOCABULARY, Random(seed).random)
    requests = [request for lane in lanes for request in lane]
    assert len(requests) == workload.streams * workload.requests
    assert {len(request.prompt) for request in requests} == {workload.prompt_tokens}
    assert {request.n_predict for request in requests} == {workload.n_predict}
    assert {token for request in requests for token in request.prompt} <= set(VOCABULARY)


@given(workloads)
def test_the_same_seed_asks_the_same(workload):
    assert make_requests(workload, VOCABULARY, Random(7).random) == make_requests(
        workload, VOCABULARY, Random(7).random
    )


def test_another_seed_asks_something_else():
    workload = Workload(prompt_tokens=32)
    assert make_requests(workload, VOCABULARY, Random(7).random) != make_requests(
        workload, VOCABULARY, Random(8).random
    )


def test_a_closed_loop_is_one_lane_per_stream_and_an_open_one_is_a_lane_per_request():
    closed = make_requests(Workload(streams=2, requests=3), VOCABULARY, Random(1).random)
    assert [len(lane) for lane in closed] == [3, 3]
    assert all(request.due_s == 0 for lane in closed for request in lane)
    opened = make_requests(Workload(streams=2, requests=3, rate_per_s=5), VOCABULARY, Random(1).random)
    assert [len(lane) for lane in opened] == [1] * 6
    due_s = [lane[0].due_s for lane in opened]
    assert due_s == sorted(due_s)
    assert due_s[0] > 0


def test_arrivals_have_the_rate_that_was_asked_for():
    due_s = arrivals(20_000, 4.0, Random(1).random)
    assert 20_000 / due_s[-1] == pytest.approx(4.0, rel=0.03)


def test_the_body_asks_for_exact_tokens_and_no_cache():
    [[request]] = make_requests(Workload(3, 5), VOCABULARY, Random(1).random)
    body = request.body()
    assert body["prompt"] == list(request.prompt)
    assert (body["n_predict"], body["ignore_eos"], body["cache_prompt"], body["stream"]) == (5, True, False, True)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens 0"),
        ({"streams": 0}, "streams 0"),
        ({"requests": -1}, "requests -1"),
        ({"n_predict": 1}, "n_predict 1"),
        ({"rate_per_s": 0.0}, "rate of 0"),
    ],
)
def test_a_workload_that_measures_nothing_is_refused(fields, word):
    with pytest.raises(ConfigError, match=word):
        Workload(**fields)


@pytest.mark.parametrize(
    ("workload", "label"),
    [
        (Workload(64, 32), "1 stream, 64 + 32 tokens"),
        (Workload(64, 32, 8, 2), "8 streams, 64 + 32 tokens, 2 requests each"),
        (Workload(8, 4, 3, rate_per_s=0.5), "3 streams, 8 + 4 tokens, 0.5 requests/s"),
    ],
)
def test_the_label(workload, label):
    assert workload.label == label


def test_repeats_go_there_and_back():
    assert [order(["a", "b", "c"], repeat) for repeat in range(3)] == [
        ["a", "b", "c"],
        ["c", "b", "a"],
        ["a", "b", "c"],
    ]

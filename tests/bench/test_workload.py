"""Exact lengths, reproducible prompts, arrivals of the asked rate."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.bench.workload import Kind, Material, Request, Workload, arrivals, make_requests, order, words
from rpc_wrapper.errors import ConfigError

VOCABULARY = [11, 12, 13, 14]
MATERIAL = Material(tuple(VOCABULARY))

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
    lanes = make_requests(workload, MATERIAL, Random(seed).random)
    requests = [request for lane in lanes for request in lane]
    assert len(requests) == workload.streams * workload.requests
    assert {len(request.prompt) for request in requests} == {workload.prompt_tokens}
    assert {request.n_predict for request in requests} == {workload.n_predict}
    assert {token for request in requests for token in request.prompt} <= set(VOCABULARY)


@given(workloads)
def test_the_same_seed_asks_the_same(workload):
    assert make_requests(workload, MATERIAL, Random(7).random) == make_requests(workload, MATERIAL, Random(7).random)


def test_another_seed_asks_something_else():
    workload = Workload(prompt_tokens=32)
    assert make_requests(workload, MATERIAL, Random(7).random) != make_requests(workload, MATERIAL, Random(8).random)


def test_a_closed_loop_is_one_lane_per_stream_and_an_open_one_is_a_lane_per_request():
    closed = make_requests(Workload(streams=2, requests=3), MATERIAL, Random(1).random)
    assert [len(lane) for lane in closed] == [3, 3]
    assert all(request.due_s == 0 for lane in closed for request in lane)
    opened = make_requests(Workload(streams=2, requests=3, rate_per_s=5), MATERIAL, Random(1).random)
    assert [len(lane) for lane in opened] == [1] * 6
    due_s = [lane[0].due_s for lane in opened]
    assert due_s == sorted(due_s)
    assert due_s[0] > 0


def test_texts_are_asked_in_turn_by_every_client():
    workload = Workload(n_predict=5, streams=2, texts=("one", "two"))
    lanes = make_requests(workload, Material(texts=((1,), (2, 2))), Random(1).random)
    assert [[request.prompt for request in lane] for lane in lanes] == [[(1,), (2, 2)]] * 2


def test_endpoints_without_token_ids_get_words():
    chat, embeddings = (Workload(kind=kind, prompt_tokens=9) for kind in (Kind.CHAT, Kind.EMBEDDINGS))
    [[request]] = make_requests(chat, Material(n_words=6), Random(1).random)
    assert len(str(request.prompt).split()) == 6
    body = request.body("m")
    assert (request.path, body["model"], body["max_tokens"]) == ("/v1/chat/completions", "m", 64)
    assert body["messages"] == [{"role": "user", "content": request.prompt}]
    [[request]] = make_requests(embeddings, Material(n_words=6), Random(1).random)
    assert (request.path, request.body("m")) == ("/v1/embeddings", {"model": "m", "input": request.prompt})


def test_a_chat_may_be_one_of_texts():
    [[request]] = make_requests(Workload(kind=Kind.CHAT, texts=("Who?",)), Material(), Random(1).random)
    assert request.body()["messages"][0]["content"] == "Who?"


def test_the_prompt_cache_is_used_when_asked_for():
    assert Request((1,), 2, cache_prompt=True).body()["cache_prompt"]


def test_words_are_drawn_anew():
    draw = Random(1).random
    assert words(5, draw) != words(5, draw)


def test_embeddings_have_no_texts():
    with pytest.raises(ConfigError, match="drawn words"):
        Workload(kind=Kind.EMBEDDINGS, texts=("a",))


def test_arrivals_have_the_rate_that_was_asked_for():
    due_s = arrivals(20_000, 4.0, Random(1).random)
    assert 20_000 / due_s[-1] == pytest.approx(4.0, rel=0.03)


def test_the_body_asks_for_exact_tokens_and_no_cache():
    [[request]] = make_requests(Workload(3, 5), MATERIAL, Random(1).random)
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
        (Workload(8, 4, kind=Kind.CHAT), "1 stream, 8 + 4 tokens by chat"),
        (Workload(n_predict=4, texts=("a", "b")), "1 stream, 2 texts + 4 tokens"),
        (Workload(8, kind=Kind.EMBEDDINGS), "1 stream, embeddings of 8 tokens"),
        (Workload(8, 4, kind=Kind.STEPS, cache_prompt=True), "1 stream, 8 + 4 tokens one request each, prompt cache"),
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

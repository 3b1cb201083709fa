"""What is known of a request from the bytes that went to its client."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from rpc_wrapper.gateway.visit import Outcome, Tokens, Visit, tokens_in

Headers = Sequence[tuple[bytes, bytes]]

EVENT_STREAM = [(b"content-type", b"text/event-stream")]
TIMINGS = {"cache_n": 3, "prompt_n": 4, "prompt_ms": 1.5, "predicted_n": 9, "predicted_ms": 2.0}


def start(status: int = 200, headers: Headers = ()) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def visited(*messages: dict[str, Any], **fields: Any) -> Visit:
    """Return a visit that began at 10 s, each message a second after the one before."""
    visit = Visit(began_at=10.0, is_passed_on=True, **fields)
    for index, message in enumerate(messages):
        visit.sent(message, 11.0 + index)
    visit.ended_at = visit.ended_at or 99.0
    return visit


def test_a_stream_is_timed_and_counted():
    pieces: list[tuple[int, float | None]] = []
    visit = visited(
        start(headers=EVENT_STREAM),
        body(b": ping\n\n"),
        body(b'data: {"prompt_progress":{"processed":1,"total":2}}\n\n'),
        body(b'data: {"content":"a"}\n\n'),
        body(b'data: {"content":"b"}\n\ndata: {"content":"c"}\n\n'),
        body(b'data: {"content":"","stop":true,"timings":%b}\n\n' % json.dumps(TIMINGS).encode()),
        body(b"data: [DONE]\n\n"),
        body(more=False),
        on_tokens=lambda n_events, gap_s: pieces.append((n_events, gap_s)),
    )
    assert visit.ttft_s == 4.0
    assert pieces == [(1, None), (2, 1.0), (1, 1.0)]
    assert visit.tokens == Tokens(prompt=7, generated=9)
    assert (visit.n_generated, visit.n_events) == (9, 4)
    assert (visit.outcome, visit.duration_s) == (Outcome.OK, 8.0)


def test_the_engines_count_may_come_in_pieces():
    whole = b'{"content":"x","timings":%b}' % json.dumps(TIMINGS).encode()
    for cut in range(1, len(whole)):
        assert visited(start(), body(whole[:cut]), body(whole[cut:])).tokens == Tokens(7, 9)


def test_a_stream_without_its_end_counts_the_events():
    visit = visited(start(headers=EVENT_STREAM), body(b'data: {"content":"a"}\n\n'), body(b'data: {"content":"b"}\n\n'))
    assert visit.n_generated == 2


@pytest.mark.parametrize(
    ("messages", "fields", "outcome"),
    [
        ([start(), body(more=False)], {}, Outcome.OK),
        ([start(404), body(more=False)], {}, Outcome.CLIENT_ERROR),
        ([start(429), body(more=False)], {}, Outcome.OVERLOADED),
        ([start(503), body(more=False)], {}, Outcome.UNAVAILABLE),
        ([start(500), body(more=False)], {}, Outcome.ERROR),
        ([start(), body(b"x")], {}, Outcome.BROKEN_OFF),
        ([start(), body(b"x")], {"client_left": True}, Outcome.CLIENT_LEFT),
        ([], {"client_left": True}, Outcome.CLIENT_LEFT),
        ([start(headers=EVENT_STREAM), body(b'data: {"error":{}}\n\n'), body(more=False)], {}, Outcome.BROKEN_OFF),
        ([start(headers=EVENT_STREAM), body(b"event: error\ndata: {}\n\n"), body(more=False)], {}, Outcome.BROKEN_OFF),
    ],
)
def test_outcomes(messages, fields, outcome):
    assert visited(*messages, **fields).outcome is outcome


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ({"content": "x", "timings": TIMINGS}, Tokens(7, 9)),
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}, "timings": TIMINGS}, Tokens(5, 6)),
        ({"usage": {"cache_read_input_tokens": 2, "input_tokens": 3, "output_tokens": 4}}, Tokens(5, 4)),
        ({"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}, Tokens(8, None)),
        ({"content": 'a model that says "timings":{"predicted_n":99}'}, None),
        ({"timings": "soon"}, None),
        ({"timings": {"predicted_n": "many"}}, Tokens(None, None)),
    ],
)
def test_the_engine_counts_for_us(answer, tokens):
    assert tokens_in(json.dumps(answer, separators=(",", ":")).encode()) == tokens


def test_half_an_object_is_none():
    assert tokens_in(b'{"timings":{"predicted_n":1') is None


@pytest.mark.parametrize(
    ("path", "status", "is_notable"),
    [
        ("/readyz", 503, False),
        ("/health", 503, False),
        ("/livez", 200, False),
        ("/cluster", 200, False),
        ("/cluster", 503, True),
        ("/nowhere", 404, True),
    ],
)
def test_a_health_probe_that_fails_is_no_news(path, status, is_notable):
    assert visited(start(status), body(more=False), path=path).is_notable is is_notable


def test_work_is_news_even_when_it_succeeds():
    assert visited(start(), body(more=False), path="/completion", is_work=True).is_notable


def test_the_log_line_leaves_out_what_says_nothing():
    visit = visited(start(404), body(more=False), request_id="r", method="GET", endpoint="/x")
    assert visit.to_json() == {
        "request_id": "r",
        "method": "GET",
        "endpoint": "/x",
        "status": 404,
        "outcome": "client_error",
        "duration_s": 2.0,
    }

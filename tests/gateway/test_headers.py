"""Which headers cross the gateway."""

import pytest

from rpc_wrapper.access import accepted_request_id, find
from rpc_wrapper.gateway.headers import for_client, for_engine, is_event_stream


def test_the_clients_secrets_and_its_connection_stay_here():
    sent = [
        (b"host", b"example"), (b"authorization", b"Bearer mine"), (b"x-api-key", b"mine"), (b"api-key", b"mine"),
        (b"cookie", b"session=mine"), (b"connection", b"keep-alive, x-hop"), (b"x-hop", b"1"), (b"te", b"trailers"),
        (b"transfer-encoding", b"chunked"), (b"content-length", b"3"), (b"x-conversation-id", b"c1"),
        (b"accept-encoding", b"gzip"), (b"expect", b"100-continue"), (b"content-type", b"application/json"),
        (b"x-custom", b"\xe7\x8c\xab"),
    ]  # fmt: skip
    assert for_engine(sent, api_key="engine-key", request_id="r1") == [
        (b"connection", b"close"),
        (b"accept-encoding", b"identity"),
        (b"x-request-id", b"r1"),
        (b"authorization", b"Bearer engine-key"),
        (b"content-type", b"application/json"),
        (b"x-custom", b"\xe7\x8c\xab"),
    ]


def test_without_a_key_none_is_sent():
    assert find(for_engine([(b"authorization", b"Bearer mine")], api_key="", request_id="r1"), b"authorization") is None


def test_the_engines_headers_reach_the_client():
    answered = [
        (b"Content-Type", b"application/json"), (b"Content-Length", b"3"), (b"Connection", b"close, X-Hop"),
        (b"X-Hop", b"1"), (b"Keep-Alive", b"timeout=5"), (b"Server", b"llama.cpp"), (b"X-Request-Id", b"theirs"),
        (b"Access-Control-Allow-Origin", b"*"),
    ]  # fmt: skip
    assert for_client(answered) == [
        (b"content-type", b"application/json"),
        (b"content-length", b"3"),
        (b"server", b"llama.cpp"),
        (b"access-control-allow-origin", b"*"),
    ]


def test_streams_are_marked_once():
    stream = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
    assert is_event_stream(stream)
    marked = for_client(stream)
    assert marked[-1] == (b"x-accel-buffering", b"no")
    assert for_client(marked) == marked


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (b"abc-123", "abc-123"),
        (b"a" * 128, "a" * 128),
        (b"a" * 129, None),
        (b"", None),
        (b"a b", None),
        (b"a\xff", None),
        (b"a\n", None),
        (b"{evil}", None),
    ],
)
def test_request_ids_are_safe_to_print(value, accepted):
    assert accepted_request_id([(b"x-request-id", value)]) == accepted


def test_no_request_id_is_none():
    assert accepted_request_id([]) is None

"""Which headers cross the gateway (RFC 9110, 7.6.1), as functions over ASGI's lower-case ``(name, value)`` pairs."""

from rpc_wrapper.access import Headers, find

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# The client's secrets are for us, not for the engine. X-Conversation-Id would make llama-server go on generating after
# the client has left (tools/server/server-stream.cpp). The rest is written anew for the exchange with the engine.
_NOT_FOR_ENGINE = _HOP_BY_HOP | {
    b"accept-encoding",
    b"api-key",
    b"authorization",
    b"content-length",
    b"cookie",
    b"expect",
    b"host",
    b"x-api-key",
    b"x-conversation-id",
    b"x-request-id",
}


def for_engine(headers: Headers, *, api_key: str, request_id: str) -> Headers:
    """Return the headers of the exchange with the engine: the client's, less its secrets, plus the engine's key.

    The connection is closed after each answer: an idle one would hold one of llama-server's few HTTP threads.
    """
    dropped = _NOT_FOR_ENGINE | _named_by_connection(headers)
    kept = [(key, value) for key, value in headers if key.lower() not in dropped]
    ours = [(b"connection", b"close"), (b"accept-encoding", b"identity"), (b"x-request-id", request_id.encode())]
    if api_key:
        ours.append((b"authorization", b"Bearer " + api_key.encode()))
    return ours + kept


def for_client(headers: Headers) -> Headers:
    """Return the engine's response headers for the client; a stream is marked so that no proxy buffers it."""
    dropped = _HOP_BY_HOP | {b"x-request-id"} | _named_by_connection(headers)
    kept = [(key.lower(), value) for key, value in headers if key.lower() not in dropped]
    if is_event_stream(headers) and find(kept, b"x-accel-buffering") is None:
        kept.append((b"x-accel-buffering", b"no"))
    return kept


def is_event_stream(headers: Headers) -> bool:
    """Tell whether a response is a stream of server-sent events."""
    return (find(headers, b"content-type") or b"").lower().startswith(b"text/event-stream")


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    values = (value for key, value in headers if key.lower() == b"connection")
    return frozenset(name.strip().lower() for value in values for name in value.split(b","))

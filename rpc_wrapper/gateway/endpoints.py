"""The routes of llama-server that are passed on, and those that are not (tools/server/server.cpp)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from rpc_wrapper.gateway.errors import Refusal, forbidden, method_not_allowed, not_found


class Kind(StrEnum):
    """How much of the engine a request takes."""

    INFERENCE = "inference"  # a slot, for as long as it generates
    LIGHT = "light"  # an HTTP thread, for milliseconds
    STATUS = "status"  # a glance: never waits


class Shape(StrEnum):
    """Which request fields an endpoint reads; the tables are in :mod:`.fields`."""

    NONE = "none"
    COMPLETION = "completion"
    CHAT = "chat"
    MESSAGES = "messages"
    RESPONSES = "responses"
    INFILL = "infill"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    TRANSCRIPTION = "transcription"
    TOKENIZE = "tokenize"
    DETOKENIZE = "detokenize"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class EngineEndpoint:
    """One route of the engine; an empty ``methods`` takes every method."""

    path: str
    methods: tuple[str, ...]
    kind: Kind
    shape: Shape = Shape.NONE

    @property
    def is_anthropic(self) -> bool:
        """Tell whether its clients expect errors in Anthropic's shape."""
        return self.shape is Shape.MESSAGES

    @property
    def generates(self) -> bool:
        """Tell whether its answers are made of tokens, so that one of them proves the engine alive."""
        return self.kind is Kind.INFERENCE and self.shape not in (Shape.EMBEDDING, Shape.RERANK)


def _post(kind: Kind, shape: Shape, *paths: str) -> Iterable[EngineEndpoint]:
    return (EngineEndpoint(path, ("POST", "OPTIONS"), kind, shape) for path in paths)


def _get(*paths: str) -> Iterable[EngineEndpoint]:
    return (EngineEndpoint(path, ("GET", "HEAD", "OPTIONS"), Kind.STATUS) for path in paths)


ENDPOINTS = {
    endpoint.path: endpoint
    for group in (
        _post(Kind.INFERENCE, Shape.COMPLETION, "/completion", "/completions", "/v1/completions"),
        _post(Kind.INFERENCE, Shape.CHAT, "/chat/completions", "/v1/chat/completions"),
        _post(Kind.INFERENCE, Shape.RESPONSES, "/responses", "/v1/responses"),
        _post(Kind.INFERENCE, Shape.MESSAGES, "/v1/messages"),
        _post(Kind.INFERENCE, Shape.INFILL, "/infill"),
        _post(Kind.INFERENCE, Shape.EMBEDDING, "/embedding", "/embeddings", "/v1/embeddings"),
        _post(Kind.INFERENCE, Shape.RERANK, "/rerank", "/reranking", "/v1/rerank", "/v1/reranking"),
        _post(Kind.INFERENCE, Shape.TRANSCRIPTION, "/audio/transcriptions", "/v1/audio/transcriptions"),
        _post(Kind.LIGHT, Shape.TOKENIZE, "/tokenize"),
        _post(Kind.LIGHT, Shape.DETOKENIZE, "/detokenize"),
        _post(Kind.LIGHT, Shape.CHAT, "/apply-template"),
        _post(Kind.LIGHT, Shape.CHAT, "/chat/completions/input_tokens", "/v1/chat/completions/input_tokens"),
        _post(Kind.LIGHT, Shape.RESPONSES, "/responses/input_tokens", "/v1/responses/input_tokens"),
        _post(Kind.LIGHT, Shape.MESSAGES, "/v1/messages/count_tokens"),
        _post(Kind.LIGHT, Shape.CONTROL, "/v1/chat/completions/control"),
        _get("/props", "/slots", "/lora-adapters", "/models", "/v1/models"),
    )
    for endpoint in group
}

# Routes that change the engine for everybody, reach files, networks or shells, or read other clients' streams.
_DANGEROUS = frozenset({("POST", "/props"), ("POST", "/lora-adapters"), ("POST", "/models"), ("DELETE", "/models")})
_DANGEROUS_TREES = ("/slots/", "/models/", "/cors-proxy", "/tools", "/v1/stream")


def find_endpoint(method: str, path: str, *, passthrough_all: bool = False) -> EngineEndpoint:
    """Return the engine's endpoint for a request, or raise Refusal (403, 404, 405).

    With ``passthrough_all`` every path is one, and the engine itself says what it does not know.
    """
    endpoint = ENDPOINTS.get(path)
    if endpoint is not None and method in endpoint.methods:
        return endpoint
    if passthrough_all:
        return EngineEndpoint(path, (), Kind.STATUS if method in ("GET", "HEAD", "OPTIONS") else Kind.LIGHT)
    if (method, path) in _DANGEROUS or path.startswith(_DANGEROUS_TREES):
        message = f"{method} {path} can change or read what belongs to others: set APP_PASSTHROUGH=all to allow it."
        raise Refusal(forbidden("endpoint_refused", message))
    if endpoint is not None:
        raise Refusal(method_not_allowed(method, path, endpoint.methods))
    raise Refusal(not_found(path))

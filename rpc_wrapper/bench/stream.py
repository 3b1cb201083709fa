"""Turn the bytes of a streamed completion, each piece with its time, into an answer: pure, so done after the round."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from rpc_wrapper.errors import UpstreamError

Piece = tuple[float, bytes]
"""When bytes arrived, in seconds, and the bytes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's outcome; times in seconds from the start of its round, one of ``token_at_s`` per token."""

    sent_s: float
    token_at_s: tuple[float, ...]
    prompt_tokens: int

    @property
    def ttft_s(self) -> float:
        """Time to first token."""
        return self.token_at_s[0] - self.sent_s

    @property
    def ttlt_s(self) -> float:
        """Time to last token."""
        return self.token_at_s[-1] - self.sent_s

    @property
    def itl_s(self) -> list[float]:
        """Times between tokens, one fewer than tokens; those of one piece share the time since the piece before."""
        arrivals = [(at_s, len(list(tokens))) for at_s, tokens in groupby(self.token_at_s)]
        gaps = [0.0] * (arrivals[0][1] - 1)
        for (before_s, _), (at_s, count) in pairwise(arrivals):
            gaps += [(at_s - before_s) / count] * count
        return gaps


def read_answer(sent_s: float, pieces: Sequence[Piece], prompt_tokens: int, n_predict: int) -> Answer:
    """Return the answer, or raise UpstreamError when it is not whole or not of the length that was asked for."""
    token_at_s: list[float] = []
    stopped = False
    for at_s, event in _events(pieces):
        if "error" in event:
            raise UpstreamError(f"the target ended an answer with an error: {str(event['error'])[:300]}")
        count = event.get("tokens_predicted", len(token_at_s) + len(event.get("tokens", ())))
        token_at_s += [at_s] * (count - len(token_at_s))
        stopped = stopped or bool(event.get("stop"))
        prompt_seen = event.get("tokens_evaluated", prompt_tokens)
        if prompt_seen != prompt_tokens:
            raise UpstreamError(f"the target read {prompt_seen} prompt tokens of {prompt_tokens}: raise its context")
    if not stopped or len(token_at_s) != n_predict:
        raise UpstreamError(f"an answer ended after {len(token_at_s)} of {n_predict} tokens: see the target's log")
    return Answer(sent_s, tuple(token_at_s), prompt_tokens)


def read_chat(sent_s: float, pieces: Sequence[Piece], prompt_tokens: int) -> Answer:
    """Return the answer of an OpenAI chat stream, its lengths as the target reports them; raise UpstreamError.

    A piece of content counts as a token; tokens that are reported beyond those came with the last piece.
    """
    token_at_s: list[float] = []
    generated = 0
    for at_s, event in _events(pieces):
        if "error" in event:
            raise UpstreamError(f"the target ended an answer with an error: {str(event['error'])[:300]}")
        if any(_has_text(choice.get("delta", {})) for choice in event.get("choices", ())):
            token_at_s.append(at_s)
        if usage := event.get("usage"):
            prompt_tokens, generated = usage["prompt_tokens"], usage["completion_tokens"]
    if not token_at_s:
        raise UpstreamError("an answer ended without a token: see the target's log")
    token_at_s += token_at_s[-1:] * (generated - len(token_at_s))
    return Answer(sent_s, tuple(token_at_s), prompt_tokens)


def read_embedding(sent_s: float, pieces: Sequence[Piece]) -> Answer:
    """Return an embedding's answer as one token at the time its last byte came; raise UpstreamError."""
    try:
        value = json.loads(b"".join(data for _, data in pieces))
        vector = value["data"][0]["embedding"]
    except (ValueError, LookupError, TypeError):
        raise UpstreamError(
            "the target answered an embedding request with none: is it started with --embeddings?"
        ) from None
    if not vector:
        raise UpstreamError("the target answered with an embedding of no numbers: see its log")
    return Answer(sent_s, (pieces[-1][0],), int(value.get("usage", {}).get("prompt_tokens", 0)))


def _has_text(delta: dict[str, Any]) -> bool:
    return bool(delta.get("content") or delta.get("reasoning_content"))


def _events(pieces: Sequence[Piece]) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield every server-sent event with the time its last byte arrived (WHATWG HTML, 9.2; one data line each)."""
    rest = b""
    for at_s, data in pieces:
        *blocks, rest = (rest + data).split(b"\n\n")
        for block in blocks:
            for line in block.split(b"\n"):
                if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
                    yield at_s, _object(line[5:])


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise UpstreamError(f"the target streamed something that is no JSON: {text[:100]!r}") from None
    if not isinstance(value, dict):
        raise UpstreamError(f"the target streamed JSON that is no object: {text[:100]!r}")
    return value

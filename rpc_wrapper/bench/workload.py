"""What is asked of a target: exact numbers of prompt and generated tokens, how many at once, and when."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

from rpc_wrapper.errors import ConfigError

Draw = Callable[[], float]
"""A source of uniform numbers in [0, 1), such as ``random.Random(seed).random``."""

SEED_TEXT = "One morning a small brown dog went out to look for its friend, and found seven new things on the way."
"""Prompts are drawn from this text's tokens, so that they are ordinary pieces of any vocabulary."""
WORDS = tuple(SEED_TEXT.rstrip(".").replace(",", "").split())


class Kind(StrEnum):
    """How a target is asked."""

    TOKENS = "tokens"
    """``POST /completion`` with token ids: exact lengths, llama-server only."""
    STEPS = "steps"
    """The same, but each token is a request of its own that sends the whole text again: what a KV cache saves."""
    CHAT = "chat"
    """``POST /v1/chat/completions``: any OpenAI endpoint; prompt lengths are approached, and reported as they were."""
    EMBEDDINGS = "embeddings"
    """``POST /v1/embeddings``: an answer counts as one token."""


SPOKEN = (Kind.CHAT, Kind.EMBEDDINGS)
"""The kinds whose prompts are words, since the endpoint takes no token ids."""


@dataclass(frozen=True, slots=True)
class Workload:
    """``streams`` clients at once, each asking ``requests`` times.

    Each client asks again when it was answered (closed loop); with ``rate_per_s`` all requests come at random times of
    that mean rate instead (Poisson arrivals, open loop), whether earlier ones were answered or not. With ``texts``
    every request of a client is one of these, in turn, instead of drawn tokens. ``cache_prompt`` lets the engine use
    what it still holds of an earlier prompt.
    """

    prompt_tokens: int = 64
    n_predict: int = 64
    streams: int = 1
    requests: int = 1
    rate_per_s: float | None = None
    kind: Kind = Kind.TOKENS
    texts: tuple[str, ...] = ()
    cache_prompt: bool = False

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "streams", "requests"):
            if getattr(self, name) < 1:
                raise ConfigError(f"a workload with {name} {getattr(self, name)} asks nothing: use 1 or more")
        if self.n_predict < 2 and self.kind is not Kind.EMBEDDINGS:
            raise ConfigError(f"n_predict {self.n_predict} leaves no interval between tokens to measure: use 2 or more")
        if self.rate_per_s is not None and self.rate_per_s <= 0:
            raise ConfigError(f"a rate of {self.rate_per_s:g} requests/s never asks: use more than 0")
        if self.texts and self.kind is Kind.EMBEDDINGS:
            raise ConfigError("embeddings are asked for drawn words: leave the texts out")

    @property
    def per_client(self) -> int:
        """Return how many requests each client sends."""
        return self.requests * max(1, len(self.texts))

    @property
    def label(self) -> str:
        """Return it in a few words."""
        text = f"{self.streams} stream{'s' * (self.streams > 1)}, {self._size}"
        text += f", {self.requests} requests each" if self.requests > 1 else ""
        text += f", {self.rate_per_s:g} requests/s" if self.rate_per_s else ""
        return text + (", prompt cache" if self.cache_prompt else "")

    @property
    def _size(self) -> str:
        if self.kind is Kind.EMBEDDINGS:
            return f"embeddings of {self.prompt_tokens} tokens"
        prompt = f"{len(self.texts)} texts" if self.texts else f"{self.prompt_tokens}"
        kinds = {Kind.TOKENS: "tokens", Kind.CHAT: "tokens by chat", Kind.STEPS: "tokens one request each"}
        return f"{prompt} + {self.n_predict} {kinds[self.kind]}"


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to ask, ``due_s`` after the round began or later; ``prompt`` is token ids, or text where it must be."""

    prompt: tuple[int, ...] | str
    n_predict: int
    due_s: float = 0.0
    kind: Kind = Kind.TOKENS
    cache_prompt: bool = False

    @property
    def path(self) -> str:
        """Return the endpoint to ask."""
        return {Kind.CHAT: "/v1/chat/completions", Kind.EMBEDDINGS: "/v1/embeddings"}.get(self.kind, "/completion")

    def body(self, model: str = "") -> dict[str, Any]:
        """Return the body: exactly ``n_predict`` tokens, and by default of a prompt that no cache holds.

        Greedy, so that every target generates the same tokens; ``ignore_eos``, so that none stops early. OpenAI's
        endpoints want the ``model``'s name.
        """
        greedy = {"ignore_eos": True, "temperature": 0, "cache_prompt": self.cache_prompt, "stream": True}
        if self.kind is Kind.EMBEDDINGS:
            return {"model": model, "input": self.prompt}
        if self.kind is Kind.CHAT:
            messages = [{"role": "user", "content": self.prompt}]
            usage = {"stream_options": {"include_usage": True}}
            return {"model": model, "messages": messages, "max_tokens": self.n_predict, **usage, **greedy}
        return {"prompt": list(self.prompt), "n_predict": self.n_predict, **greedy}


@dataclass(frozen=True, slots=True)
class Material:
    """What prompts are made of: a vocabulary's token ids, the texts' ids, and how many words make a prompt."""

    vocabulary: tuple[int, ...] = ()
    texts: tuple[tuple[int, ...], ...] = ()
    n_words: int = 0


def make_requests(workload: Workload, material: Material, draw: Draw) -> list[list[Request]]:
    """Return lanes of requests: a lane's requests follow one another, lanes run side by side."""
    per_client = workload.per_client
    count = workload.streams * per_client
    due_s = [0.0] * count if workload.rate_per_s is None else arrivals(count, workload.rate_per_s, draw)
    requests = [
        Request(
            _prompt(workload, material, number, draw), workload.n_predict, due, workload.kind, workload.cache_prompt
        )
        for number, due in enumerate(due_s)
    ]
    per_lane = 1 if workload.rate_per_s else per_client
    return [requests[start : start + per_lane] for start in range(0, count, per_lane)]


def _prompt(workload: Workload, material: Material, number: int, draw: Draw) -> tuple[int, ...] | str:
    spoken = workload.kind in SPOKEN
    if workload.texts:
        which = number % len(workload.texts)
        return workload.texts[which] if spoken else material.texts[which]
    if spoken:
        return words(material.n_words, draw)
    ids = material.vocabulary
    return tuple(ids[int(draw() * len(ids))] for _ in range(workload.prompt_tokens))


def words(count: int, draw: Draw) -> str:
    """Return so many words of the seed text, drawn anew each time."""
    return " ".join(WORDS[int(draw() * len(WORDS))] for _ in range(count))


def arrivals(count: int, rate_per_s: float, draw: Draw) -> list[float]:
    """Return ``count`` times in seconds whose gaps are exponential with mean ``1 / rate_per_s``."""
    return list(accumulate(-math.log1p(-draw()) / rate_per_s for _ in range(count)))


def order(names: Sequence[str], repeat: int) -> list[str]:
    """Return the order of one repeat: there and back (ABBA), so that a slow drift touches every target alike."""
    return list(names) if repeat % 2 == 0 else list(reversed(names))

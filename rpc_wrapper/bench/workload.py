"""What is asked of a target: exact numbers of prompt and generated tokens, how many at once, and when."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from rpc_wrapper.errors import ConfigError

Draw = Callable[[], float]
"""A source of uniform numbers in [0, 1), such as ``random.Random(seed).random``."""

SEED_TEXT = "One morning a small brown dog went out to look for its friend, and found seven new things on the way."
"""Prompts are drawn from this text's tokens, so that they are ordinary pieces of any vocabulary."""


@dataclass(frozen=True, slots=True)
class Workload:
    """``streams`` clients at once, each asking ``requests`` times.

    Each client asks again when it was answered (closed loop); with ``rate_per_s`` all requests come at random times of
    that mean rate instead (Poisson arrivals, open loop), whether earlier ones were answered or not.
    """

    prompt_tokens: int = 64
    n_predict: int = 64
    streams: int = 1
    requests: int = 1
    rate_per_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "streams", "requests"):
            if getattr(self, name) < 1:
                raise ConfigError(f"a workload with {name} {getattr(self, name)} asks nothing: use 1 or more")
        if self.n_predict < 2:
            raise ConfigError(f"n_predict {self.n_predict} leaves no interval between tokens to measure: use 2 or more")
        if self.rate_per_s is not None and self.rate_per_s <= 0:
            raise ConfigError(f"a rate of {self.rate_per_s:g} requests/s never asks: use more than 0")

    @property
    def label(self) -> str:
        """Return it in a few words."""
        text = f"{self.streams} stream{'s' * (self.streams > 1)}, {self.prompt_tokens} + {self.n_predict} tokens"
        text += f", {self.requests} requests each" if self.requests > 1 else ""
        return text + (f", {self.rate_per_s:g} requests/s" if self.rate_per_s else "")


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to ask for, ``due_s`` after the round began or later."""

    prompt: tuple[int, ...]
    n_predict: int
    due_s: float = 0.0

    def body(self) -> dict[str, Any]:
        """Return the body of ``POST /completion``: exactly ``n_predict`` tokens of a prompt that no cache holds.

        Greedy, so that every target generates the same tokens; ``ignore_eos``, so that none stops early.
        """
        return {
            "prompt": list(self.prompt),
            "n_predict": self.n_predict,
            "ignore_eos": True,
            "temperature": 0,
            "cache_prompt": False,
            "stream": True,
        }


def make_requests(workload: Workload, vocabulary: Sequence[int], draw: Draw) -> list[list[Request]]:
    """Return lanes of requests: a lane's requests follow one another, lanes run side by side.

    ``vocabulary`` holds the token ids that prompts are drawn from.
    """
    count = workload.streams * workload.requests
    due_s = [0.0] * count if workload.rate_per_s is None else arrivals(count, workload.rate_per_s, draw)
    requests = [Request(_prompt(workload.prompt_tokens, vocabulary, draw), workload.n_predict, due) for due in due_s]
    per_lane = 1 if workload.rate_per_s else workload.requests
    return [requests[start : start + per_lane] for start in range(0, count, per_lane)]


def arrivals(count: int, rate_per_s: float, draw: Draw) -> list[float]:
    """Return ``count`` times in seconds whose gaps are exponential with mean ``1 / rate_per_s``."""
    return list(accumulate(-math.log1p(-draw()) / rate_per_s for _ in range(count)))


def _prompt(length: int, vocabulary: Sequence[int], draw: Draw) -> tuple[int, ...]:
    return tuple(vocabulary[int(draw() * len(vocabulary))] for _ in range(length))


def order(names: Sequence[str], repeat: int) -> list[str]:
    """Return the order of one repeat: there and back (ABBA), so that a slow drift touches every target alike."""
    return list(names) if repeat % 2 == 0 else list(reversed(names))

"""More requests at one moment than a server may take, and what each of them was told."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

CONNECT_S = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: its status, and when it was asked for, when its status came and when it ended, in seconds."""

    status: int
    asked_at: float
    told_at: float
    ended_at: float
    retry_after: str | None = None
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Onslaught:
    """All answers of one onslaught."""

    replies: Sequence[Reply]

    @property
    def served(self) -> list[Reply]:
        """Return the requests that were taken in."""
        return [reply for reply in self.replies if reply.status == 200]

    @property
    def refused(self) -> list[Reply]:
        """Return the requests that were sent away for the crowd."""
        return [reply for reply in self.replies if reply.status == 429]

    @property
    def statuses(self) -> Counter[int]:
        """Return how often each status was given."""
        return Counter(reply.status for reply in self.replies)

    @property
    def was_at_once(self) -> bool:
        """Tell whether the last request had come before the first one ended, as it must for the counts to mean it."""
        return max(reply.asked_at for reply in self.replies) < min(reply.ended_at for reply in self.served)

    @property
    def slowest_refusal_s(self) -> float:
        """Return how long the last refused client had to wait for its refusal."""
        return max((reply.told_at - reply.asked_at for reply in self.refused), default=0.0)

    @property
    def longest_s(self) -> float:
        """Return how long the last served client was inside."""
        return max(reply.ended_at - reply.asked_at for reply in self.served)


async def onslaught(base_url: str, count: int, n_tokens: int) -> Onslaught:
    """Ask for ``count`` texts of ``n_tokens`` tokens each at one moment, every one over a connection of its own."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    timeout = httpx.Timeout(None, connect=CONNECT_S)
    async with httpx.AsyncClient(base_url=base_url, timeout=timeout, limits=limits, trust_env=False) as http:
        return Onslaught(await asyncio.gather(*(_ask(http, number, n_tokens) for number in range(count))))


async def _ask(http: httpx.AsyncClient, number: int, n_tokens: int) -> Reply:
    clock = asyncio.get_running_loop().time
    asked_at = clock()
    body = {"prompt": f"{number} friends went", "n_predict": n_tokens, "ignore_eos": True, "stream": True}
    async with http.stream("POST", "/completion", json=body) as response:
        told_at = clock()
        text = await response.aread()
        return Reply(
            response.status_code,
            asked_at,
            told_at,
            clock(),
            response.headers.get("retry-after"),
            b'"stop":true' in text,
        )

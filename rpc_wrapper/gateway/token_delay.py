"""A pause before every token of a stream: docker-distributed-llm's simulation of a network, on the client's side.

Off unless asked for; the links' own simulation (APP_LATENCY_MAX) delays what goes between server and backends instead.
A stream without it stays the engine's byte for byte; one with it ends in a comment that says what the pauses added.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from rpc_wrapper.gateway import headers
from rpc_wrapper.gateway.exchange import EngineAnswer, EngineRequest, Exchange
from rpc_wrapper.gateway.journal.reading import dialect_of, read
from rpc_wrapper.gateway.journal.sse import Splitter, comment
from rpc_wrapper.gateway.visit import Visit


@dataclass(frozen=True, slots=True)
class TokenDelay:
    """Uniform between two bounds, in seconds; the same ``seed`` gives the same pauses, None gives others each time."""

    min_s: float = 0.0
    max_s: float = 0.0
    seed: int | None = None

    @property
    def is_on(self) -> bool:
        """Tell whether there is any delay."""
        return self.max_s > 0


class DelayedExchange:
    """Pause before every event that carries text; use it around every other exchange."""

    def __init__(
        self, inner: Exchange, delay: TokenDelay, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._inner = inner
        self._delay = delay
        self._sleep = sleep
        self._random = random.Random(delay.seed)

    @asynccontextmanager
    async def __call__(self, request: EngineRequest) -> AsyncIterator[EngineAnswer]:
        """Yield the inner answer, its stream slowed down."""
        async with self._inner(request) as answer:
            is_stream = answer.status == 200 and headers.is_event_stream(answer.headers)
            is_slowed = is_stream and request.endpoint.generates
            yield replace(answer, chunks=self._slowly(request, answer.chunks)) if is_slowed else answer

    async def _slowly(self, request: EngineRequest, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        splitter, visit = Splitter(), request.visit
        dialect = dialect_of(request.endpoint.shape, request.endpoint.path)
        first_token_at: float | None = None
        async for chunk in chunks:
            for event in splitter.feed(chunk):
                if read(event, dialect).text:
                    await self._pause(visit)
                    first_token_at = first_token_at or time.monotonic()
                yield event
        if splitter.rest():
            yield splitter.rest()
        if first_token_at is not None:
            yield _report(visit, first_token_at)

    async def _pause(self, visit: Visit) -> None:
        if visit.undelayed_ttft_s is None:
            visit.undelayed_ttft_s = time.monotonic() - visit.began_at
        delay_s = self._random.uniform(self._delay.min_s, self._delay.max_s)
        visit.total_delay_s += delay_s
        await self._sleep(delay_s)


def _report(visit: Visit, first_token_at: float) -> bytes:
    """Say what the pauses added: together, and to the first token."""
    return comment(
        f"token delay: total_delay={visit.total_delay_s:.4f} ttft={visit.undelayed_ttft_s:.4f}"
        f" ttft_with_delay={first_token_at - visit.began_at:.4f}"
    )

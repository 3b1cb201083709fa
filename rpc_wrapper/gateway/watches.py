"""Look after a llama-server: its links, its backends' agents, its tokens, and backends that come late."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass

from rpc_wrapper.engine.client import EngineClient
from rpc_wrapper.errors import UpstreamError
from rpc_wrapper.gateway.backends import BackendReport, Scout
from rpc_wrapper.gateway.heartbeat import Heartbeat
from rpc_wrapper.gateway.links import Links
from rpc_wrapper.gateway.muster import Muster
from rpc_wrapper.gateway.news import News
from rpc_wrapper.gateway.start import ClusterConfig, Start
from rpc_wrapper.supervisor import Fault, FaultKind

HEARTBEAT_S = 2.0
NEWCOMERS_S = 2.0
CANARY_PAUSE_S = 1.0

log = logging.getLogger(__name__)


class Pulse:
    """When a token was last seen to come out of the engine: the only proof that every backend computes."""

    def __init__(self) -> None:
        self._at = float("-inf")

    def beat(self) -> None:
        """Take note of a token."""
        self._at = time.monotonic()

    @property
    def age_s(self) -> float:
        """Return how long ago the last one came."""
        return time.monotonic() - self._at


@dataclass(frozen=True, slots=True)
class Sources:
    """Whom the watches listen to."""

    scout: Scout
    links: Links
    news: News
    muster: Muster
    pulse: Pulse


class Watches:
    """Everything that can find out that a llama-server does not do its job; ``on_newcomer`` asks for a restart."""

    def __init__(self, config: ClusterConfig, sources: Sources) -> None:
        self.on_newcomer: Callable[[str], None] = log.info
        self._config = config
        self._sources = sources

    async def while_ready(self, start: Start) -> Fault:
        """Return the first fault of a llama-server that is ready."""
        return await first_of([*self._always(start), self._tokens(start), self._newcomers(start)])

    async def while_starting(self, start: Start) -> Fault:
        """Return the first fault of one that is not ready yet."""
        return await first_of(self._always(start))

    def _always(self, start: Start) -> list[Coroutine[object, object, Fault]]:
        return [self._sources.news.first_fault(), *(self._worker(backend) for backend in start.backends)]

    async def _worker(self, backend: BackendReport) -> Fault:
        """Ask a backend's agent again and again how its worker is: llama-server notices only when it next needs it."""
        known = backend.agent.pid if backend.agent else None
        heartbeat = Heartbeat(backend.endpoint, known, self._config.stopped_s, time.monotonic())
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            agent = await self._sources.scout.ask_agent(backend.listed, backend.endpoint)
            beat = heartbeat.hear(agent, self._moved_bytes(backend), time.monotonic())
            if agent is not None:
                self._sources.muster.hear(backend.endpoint, agent)
            if beat.note:
                self._sources.muster.note(beat.note)
            if beat.fault is not None:
                return beat.fault

    def _moved_bytes(self, backend: BackendReport) -> int:
        """Return what has come from a backend; where no link is in between, nobody knows."""
        found = self._sources.links.snapshots().items()
        return next((meter.bytes_from_backend for at, (_, meter) in found if str(at) == str(backend.endpoint)), 0)

    async def _newcomers(self, start: Start) -> Fault:
        """Look for backends that came after the start, and have the group started again over them as well."""
        known = set(start.known)
        async with EngineClient(start.base_url, start.api_key) as client:
            while True:
                await asyncio.sleep(NEWCOMERS_S)
                found = await self._sources.muster.newcomers(known)
                if not found or self._config.rejoin == "never":
                    continue
                if self._config.rejoin == "now" or await _is_idle(client):
                    names = ", ".join(str(report.endpoint) for report in found)
                    known |= {report.endpoint for report in found}
                    self.on_newcomer(f"{names} can be used now")

    async def _tokens(self, start: Start) -> Fault:
        """Ask for a token whenever none was seen for a while."""
        async with EngineClient(start.base_url, start.api_key) as client:
            while True:
                while (left_s := self._idle_left_s()) > 0:  # noqa: ASYNC110  (time itself is what is awaited)
                    await asyncio.sleep(left_s)
                # A canary in a line behind requests that show no tokens would prove nothing: the links watch those.
                fault = await self._canary(client) if await _is_idle(client) else None
                if fault is not None:
                    return fault
                await asyncio.sleep(CANARY_PAUSE_S)

    def _idle_left_s(self) -> float:
        return max(0.0, self._config.canary_s - self._sources.pulse.age_s)

    async def _canary(self, client: EngineClient) -> Fault | None:
        began = time.monotonic()
        try:
            await client.canary(self._config.canary_deadline_s)
        except UpstreamError as error:
            if self._idle_left_s() > 0:  # somebody else's token came meanwhile: it lives, it is only busy
                return None
            waited_s = time.monotonic() - began
            text = f"no token came out in {waited_s:.1f} s: {error}"
            return Fault(FaultKind.CANARY, text, None, "idle", waited_s, self._config.canary_deadline_s)
        self._sources.pulse.beat()
        return None


async def first_of(watches: Iterable[Coroutine[object, object, Fault]]) -> Fault:
    """Return what the first of several watches finds, and end the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch) for watch in watches]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
    return next(iter(done)).result()


async def _is_idle(client: EngineClient) -> bool:
    """Tell whether no slot is at work; an engine that does not even answer that is counted as idle, and tested."""
    try:
        return not any(slot["is_processing"] for slot in await client.slots())
    except UpstreamError:
        return True

"""Look after a running llama-server: its links, its backends' agents, its tokens, and backends that come late."""

import asyncio
import logging
import time
from collections.abc import Callable

from rpc_wrapper.engine.client import EngineClient
from rpc_wrapper.errors import UpstreamError
from rpc_wrapper.gateway.backends import BackendReport, Scout
from rpc_wrapper.gateway.start import ClusterConfig, Start
from rpc_wrapper.link.events import LinkEvent, Refused, Silence
from rpc_wrapper.supervisor import Fault, FaultKind

HEARTBEAT_S = 2.0  # a link notices a lost worker at once; this is for those without one
NEWCOMERS_S = 5.0
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


class Watches:
    """Everything that can find out that a running llama-server does not do its job."""

    def __init__(
        self,
        config: ClusterConfig,
        scout: Scout,
        news: asyncio.Queue[LinkEvent],
        pulse: Pulse,
        on_newcomer: Callable[[str], None],
    ) -> None:
        self._config = config
        self._scout = scout
        self._news = news
        self._pulse = pulse
        self._on_newcomer = on_newcomer

    async def first_fault(self, start: Start) -> Fault:
        """Return what is found first."""
        workers = (self._worker(backend) for backend in start.backends)
        watches = [self.links(), self._tokens(start), self._newcomers(start), *workers]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watch) for watch in watches]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        return next(iter(done)).result()

    async def links(self) -> Fault:
        """Wait for a link to lose its backend or to find it silent."""
        while True:
            event = await self._news.get()
            if isinstance(event, Refused):
                log.error("%s", event)
                continue
            kind = FaultKind.SILENCE if isinstance(event, Silence) else FaultKind.CONNECTION
            waited_s = event.waited_s if isinstance(event, Silence) else None
            return Fault(kind, str(event), backend=str(event.endpoint), detected_after_s=waited_s)

    async def _worker(self, backend: BackendReport) -> Fault:
        """Ask a backend's agent again and again whether it is still the worker that we started on.

        llama-server itself notices a lost worker only when it next needs it. An agent that does not answer says
        nothing about the worker: the data path may well flow.
        """
        known = backend.agent.pid if backend.agent else None
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            now = await self._scout.ask_agent(backend.listed, backend.endpoint)
            if known is not None and now is not None and now.pid != known:
                text = f"the worker of {backend.endpoint} has ended: {now.last_exit or 'it was restarted'}"
                return Fault(FaultKind.EXIT, text, backend=str(backend.endpoint), detected_after_s=HEARTBEAT_S)

    async def _newcomers(self, start: Start) -> Fault:
        """Look for backends that came after the start, and have the group started again over them as well."""
        known = {backend.endpoint for backend in start.backends}
        async with EngineClient(start.base_url, start.api_key) as client:
            while True:
                await asyncio.sleep(NEWCOMERS_S)
                if self._config.rejoin == "never":
                    continue
                found = await self._scout.newcomers(self._config.endpoints, known)
                if found and (self._config.rejoin == "now" or await _is_idle(client)):
                    names = ", ".join(str(report.endpoint) for report in found)
                    known |= {report.endpoint for report in found}
                    self._on_newcomer(f"{names} can be used now")

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
        return max(0.0, self._config.canary_s - self._pulse.age_s)

    async def _canary(self, client: EngineClient) -> Fault | None:
        began = time.monotonic()
        try:
            await client.canary(self._config.canary_deadline_s)
        except UpstreamError as error:
            if self._idle_left_s() > 0:  # somebody else's token came meanwhile: it lives, it is only busy
                return None
            waited_s = time.monotonic() - began
            text = f"no token came out in {waited_s:.1f} s: {error}"
            return Fault(FaultKind.CANARY, text, phase="idle", detected_after_s=waited_s)
        self._pulse.beat()
        return None


async def _is_idle(client: EngineClient) -> bool:
    """Tell whether no slot is at work; an engine that does not even answer that is counted as idle, and tested."""
    try:
        return not any(slot["is_processing"] for slot in await client.slots())
    except UpstreamError:
        return True

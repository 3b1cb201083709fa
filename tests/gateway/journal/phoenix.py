"""A cluster whose engine comes back: ``rising`` out of a list of starts, each with flags of its own."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConfigError, NotReady
from rpc_wrapper.gateway import GatewayConfig, Readiness, Target, create_app
from rpc_wrapper.gateway.exchange import Exchange
from rpc_wrapper.gateway.journal import Journal, ResumeConfig, ResumingExchange, Silence, Vigil, WatchConfig
from rpc_wrapper.gateway.upstream import Change
from tests.gateway.serve import DEADLINE_S, running

FAKE = (sys.executable, "-m", "tests.gateway.journal.server", "--port", "0")
RESUME = ResumeConfig(replay_tokens=8, attempts=3, wait_s=10.0, keepalive_s=0.05)


class Phoenix:
    """An upstream that starts the next engine when the last one has exited; after the last there is none."""

    def __init__(self, starts: list[list[str]], start_delay_s: float = 0.0, program: Sequence[str] = FAKE) -> None:
        self.ever_ready = True
        self._program = program
        self.starts = starts
        self.n_started = 0
        self.process: asyncio.subprocess.Process | None = None
        self.silences: list[Silence] = []
        self._start_delay_s = start_delay_s
        self._target: Target | None = None
        self._starting = asyncio.Lock()

    async def ensure_ready(self, timeout_s: float) -> Target:
        async with self._starting:
            if self.process is None or self.process.returncode is not None:
                await self._start()
        assert self._target is not None
        return self._target

    async def _start(self) -> None:
        if self.n_started == len(self.starts):
            raise NotReady("The engine waits for backend-cpu:50052.")
        if self.n_started:
            await asyncio.sleep(self._start_delay_s)
        flags = self.starts[self.n_started]
        self.n_started += 1
        argv = [*self._program, *flags]
        self.process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        self._target = Target(await _listening(self.process))
        async with httpx.AsyncClient(base_url=self._target.base_url, trust_env=False) as client:
            while (await client.get("/health")).status_code != 200:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.02)

    def heard_silence(self, silence: Silence) -> None:
        self.silences.append(silence)
        assert self.process is not None
        self.process.kill()

    async def aclose(self) -> None:
        if self.process is not None:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.communicate()  # to the end of its pipe too

    def progress(self) -> dict[str, Any]:
        return {"state": "preparing", "missing": ["backend-cpu:50052"]}

    def snapshot(self) -> dict[str, Any]:
        return {}

    async def check_ready(self) -> Readiness:
        return Readiness(True)

    def note_token(self) -> None:
        pass

    async def lost(self, target: Target) -> None:
        """Wait for the end of an engine that dies with the connection it cut; one that lives on is given a moment."""
        assert self.process is not None
        await asyncio.wait([asyncio.ensure_future(self.process.wait())], timeout=1.0)

    async def observe(self) -> None:
        pass

    async def changed(self) -> None:
        await asyncio.Event().wait()

    async def strategies(self) -> dict[str, Any]:
        return {}

    async def restart(self, reason: str) -> None:
        pass

    async def add_backend(self, backend: Endpoint) -> Change:
        raise ConfigError("a phoenix has no backends")

    async def remove_backend(self, backend: Endpoint) -> Change:
        raise ConfigError("a phoenix has no backends")


async def _listening(process: asyncio.subprocess.Process) -> str:
    """Return where an engine listens, as soon as it says so; what it says later is read and forgotten."""
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        if found := re.search(r"listening on (http://\S+)", line):
            return found[1]
    raise AssertionError(f"the engine ended with {await process.wait()} before it listened")


class Serving:
    """A gateway in front of a phoenix, and its journal."""

    def __init__(self, phoenix: Phoenix, client: httpx.AsyncClient, journal: Journal) -> None:
        self.phoenix = phoenix
        self.client = client
        self.journal = journal

    async def ledger(self) -> dict[str, Any]:
        """Return what the engine of now has seen."""
        target = await self.phoenix.ensure_ready(0.0)
        async with httpx.AsyncClient(base_url=target.base_url, trust_env=False) as client:
            value: dict[str, Any] = (await client.get("/_ledger")).json()
        return value


@asynccontextmanager
async def rising(
    *starts: list[str],
    config: ResumeConfig = RESUME,
    watch: WatchConfig | None = None,
    start_delay_s: float = 0.0,
    program: Sequence[str] = FAKE,
) -> AsyncIterator[Serving]:
    """Serve over engines that are started one after another with the given flags."""
    phoenix = Phoenix(list(starts), start_delay_s, program)
    made: list[ResumingExchange] = []

    def wrap(direct: Exchange) -> Exchange:
        vigil = Vigil(watch or WatchConfig(), phoenix.heard_silence)
        made.append(ResumingExchange(direct, phoenix, config, vigil))
        return made[0]

    app = create_app(GatewayConfig(), phoenix, wrap=wrap)
    try:
        async with (
            running(app) as base_url,
            httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S, trust_env=False) as client,
        ):
            yield Serving(phoenix, client, made[0].journal)
    finally:
        await phoenix.aclose()

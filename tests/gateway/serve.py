"""A real gateway and a real fake engine for tests: ``serving`` one, ``engine`` the other, ``FakeUpstream`` between."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
import uvicorn
from fastapi import FastAPI

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConfigError, NotReady
from rpc_wrapper.gateway import GatewayConfig, Readiness, Target, create_app
from rpc_wrapper.gateway.upstream import Change

DEADLINE_S = 20.0


class FakeUpstream:
    """A cluster whose state a test sets by hand."""

    def __init__(self, target: Target | None = None, *, ever_ready: bool = True) -> None:
        self.ever_ready = ever_ready
        self.ready = asyncio.Event()
        self.target = target
        self.tokens = 0
        self.restarts: list[str] = []
        self.losses: list[Target] = []
        self.listed = ["a:1", "b:1"]
        self.waits = 0
        self.waiting = asyncio.Event()
        self.observed = 0
        self.sections: dict[str, Any] = {}
        self.bell = asyncio.Event()
        if target is not None:
            self.ready.set()

    async def ensure_ready(self, timeout_s: float) -> Target:
        if not self.ready.is_set():
            self.waits += 1
            self.waiting.set()
            try:
                async with asyncio.timeout(timeout_s):
                    await self.ready.wait()
            except TimeoutError:
                raise NotReady("The engine is loading: waiting for backend-cpu:50052.", 7.0) from None
        assert self.target is not None
        return self.target

    def snapshot(self) -> dict[str, Any]:
        return {"state": "ready" if self.ready.is_set() else "loading", **self.sections}

    def progress(self) -> dict[str, Any]:
        return {"state": "loading", "progress": 0.25, "missing": ["backend-cpu:50052"]}

    async def check_ready(self) -> Readiness:
        return Readiness(True) if self.ready.is_set() else Readiness(False, "backend-cpu:50052 does not answer")

    def note_token(self) -> None:
        self.tokens += 1

    async def observe(self) -> None:
        self.observed += 1

    async def changed(self) -> None:
        bell = self.bell
        await bell.wait()

    def change(self, **sections: Any) -> None:
        """Change what the snapshot shows, and say so."""
        self.sections |= sections
        bell, self.bell = self.bell, asyncio.Event()
        bell.set()

    async def strategies(self) -> dict[str, Any]:
        return {"chosen": "memory", "strategies": []}

    async def lost(self, target: Target) -> None:
        self.losses.append(target)

    async def restart(self, reason: str) -> None:
        self.restarts.append(reason)

    async def add_backend(self, backend: Endpoint) -> Change:
        return self._change("added", [*self.listed, str(backend)])

    async def remove_backend(self, backend: Endpoint) -> Change:
        if str(backend) not in self.listed:
            raise ConfigError(f"{backend} is not among the backends")
        return self._change("removed", [each for each in self.listed if each != str(backend)])

    def _change(self, status: str, listed: list[str]) -> Change:
        is_new = listed != self.listed and len(set(listed)) == len(listed)
        self.listed = listed if is_new else self.listed
        return Change(status if is_new else "unchanged", is_new, tuple(self.listed))


class Engine:
    """A running fake engine and its ledger."""

    def __init__(self, base_url: str, api_key: str, process: asyncio.subprocess.Process) -> None:
        self.target = Target(base_url, api_key)
        self.process = process
        self._client = httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S, trust_env=False)

    async def ledger(self, **reached: int) -> dict[str, Any]:
        """Return the ledger, as soon as its counts have reached those given."""
        response = await self._client.get(f"/_ledger?{urlencode(reached)}")
        value: dict[str, Any] = response.json()
        return value

    async def release(self) -> None:
        await self._client.post("/_release")

    async def direct(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.target.api_key}"}
        return await self._client.request(method, path, headers=headers, **kwargs)

    async def aclose(self) -> None:
        await self._client.aclose()


@asynccontextmanager
async def engine(*flags: str, api_key: str = "engine-key") -> AsyncIterator[Engine]:
    """Run the fake engine as a child and kill it at the end."""
    argv = [sys.executable, "-m", "tests.fakes.llama_server", "--port", "0", "--api-key", api_key, *flags]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            line = (await process.stdout.readline()).decode()
        running = Engine(line.split()[-1], api_key, process)
        yield running
        await running.aclose()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()  # to the end of its pipe too: only then is the transport closed


class _Server(uvicorn.Server):
    """A uvicorn that leaves the test runner's signal handlers alone."""

    @contextmanager
    def capture_signals(self):
        yield


@asynccontextmanager
async def running(app: FastAPI, port: int = 0) -> AsyncIterator[str]:
    """Serve an application on loopback, on a free port unless one is given; yield its base URL."""
    config = uvicorn.Config(app, log_level="warning", server_header=False, lifespan="on", timeout_graceful_shutdown=5)
    server = _Server(config)
    with _bound_socket(port) as listening:
        host, port = listening.getsockname()
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listening]))
            try:
                yield f"http://{host}:{port}"
            finally:
                server.should_exit = True


@asynccontextmanager
async def serving(upstream: FakeUpstream, config: GatewayConfig | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a gateway; yield a client of it."""
    async with (
        running(create_app(config or GatewayConfig(), upstream)) as base_url,
        httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S, trust_env=False) as client,
    ):
        yield client


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition of this process holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the state belongs to the code under test, which signals nobody
            await asyncio.sleep(0.005)


def _bound_socket(port: int) -> socket.socket:
    # With the protocol left at 0 asyncio does not set TCP_NODELAY on what is accepted, and small writes wait 40 ms.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    bound.listen(256)
    return bound

"""A cluster as it really stands: server and backends, each a program of its own, and a network that can be cut."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from tests.chaos import census
from tests.fakes import wire

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "models" / "demo.gguf"
READY_S = 120.0
STOP_S = 30.0
POLL_S = 0.02
SERVER, WORKER = "llama-server", "ggml-rpc-server"
# Faults follow each other in seconds here and nobody ever stops asking: that is no crash loop, and no reason to leave
# out for good who has come back.
PACE = {"APP_BACKOFF_MAX_S": "1", "APP_BREAKER_FAILURES": "1000", "APP_REJOIN_PROBES": "1", "APP_REJOIN": "now"}
FIRST_PORT, LAST_PORT = 18_000, 31_000  # below what the kernel hands out by itself


@dataclass(frozen=True, slots=True)
class Setting:
    """What a cluster is started with; ``environ`` holds settings for the server alone."""

    folder: Path
    model: Path = DEMO
    n_backends: int = 3
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Program:
    """One of our programs: how to start it, and its process."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Return its process id."""
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        """Start it; what it says is added to its log."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.argv, env=self.environ, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def stop(self) -> None:
        """End it in order; by force after a deadline."""
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), STOP_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise AssertionError(f"{self.name} did not stop within {STOP_S:g} s of SIGTERM: {self.log}") from None


class Network:
    """The wires between the server and its backends, two to each: one for data, one for its agent."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()  # two faults at once may both change it

    async def set(self, port: int, mode: str) -> None:
        """Change one wire, and wait until that is in force."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = f"{port} {mode}\n".encode()
        async with self._turn:
            self._process.stdin.write(line)
            assert await self._process.stdout.readline() == line, f"the network did not obey {line!r}"


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend: its program, its own ports, and those under which the server knows it."""

    program: Program
    port: int
    data_wire: int
    agent_wire: int

    @property
    def agent_url(self) -> str:
        """Return where its agent is reached without the network between."""
        return f"http://127.0.0.1:{self.port + 1}"

    def worker(self) -> int | None:
        """Return the pid of its worker, None while there is none."""
        return next((seen.pid for seen in census.children(self.program.pid) if seen.name == WORKER[:15]), None)


class Cluster:
    """A running cluster: its gateway over HTTP, its programs by process, its network by wire."""

    def __init__(self, server: Program, backends: list[Backend], network: Network, watch: census.Census) -> None:
        self.server = server
        self.backends = backends
        self.network = network
        self.census = watch
        port = server.environ["APP_PORT"]
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=httpx.Timeout(300.0), trust_env=False, limits=limits
        )

    def engine(self) -> int | None:
        """Return the pid of llama-server, None while there is none."""
        return next((seen.pid for seen in census.children(self.server.pid) if seen.name == SERVER), None)

    async def is_ready(self) -> bool:
        """Tell whether tokens come out; raise when the server has ended."""
        if self.server.process is not None and self.server.process.returncode is not None:
            raise AssertionError(f"the server ended by itself: {self.server.log}")
        try:
            return (await self.http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def wait_ready(self, deadline_s: float = READY_S) -> None:
        """Wait until tokens come out."""
        end = time.monotonic() + deadline_s
        while not await self.is_ready():
            assert time.monotonic() < end, f"not ready after {deadline_s:g} s: {self.server.log}"
            await asyncio.sleep(POLL_S)

    async def wait_until(self, claim: Callable[[], bool], deadline_s: float) -> bool:
        """Wait until a claim about processes holds; tell whether it did in time."""
        end = time.monotonic() + deadline_s
        while not claim():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def snapshot(self) -> dict[str, Any]:
        """Return what `/cluster` tells."""
        value: dict[str, Any] = (await self.http.get("/cluster")).json()
        return value

    async def told(self) -> str:
        """Return the last of what the server says has happened, for a message."""
        return "; ".join(f"{entry['kind']}: {entry['text']}" for entry in (await self.snapshot())["history"][-3:])

    async def used(self) -> list[Backend]:
        """Return the backends that llama-server was started over."""
        rows = (await self.snapshot())["backends"]
        ports = {int(row["address"].rpartition(":")[2]) for row in rows if row["used"]}
        return [backend for backend in self.backends if backend.data_wire in ports]

    async def state(self) -> str:
        """Return the state of the group."""
        return str((await self.snapshot())["state"])

    async def start_backend(self, backend: Backend) -> None:
        """Start a backend, the first time or again."""
        await backend.program.start()
        self.census.add(backend.program.pid)

    def programs(self) -> list[Program]:
        """Return the server and the backends."""
        return [self.server, *(backend.program for backend in self.backends)]


@asynccontextmanager
async def cluster(setting: Setting) -> AsyncIterator[Cluster]:
    """Run a ready cluster until the context ends, and prove that it leaves no process behind."""
    async with contextlib.AsyncExitStack() as stack:
        watch = stack.enter_context(census.Census())
        ports = free_ports(1 + 4 * setting.n_backends)
        backends = [_backend(setting, number, ports[1 + 4 * number :]) for number in range(setting.n_backends)]
        network = await stack.enter_async_context(_network(backends))
        made = Cluster(_server(setting, ports[0], backends), backends, network, watch)
        stack.push_async_callback(made.http.aclose)
        stack.push_async_callback(_stop, made)
        for backend in backends:
            await made.start_backend(backend)
        await made.server.start()
        watch.add(made.server.pid)
        await made.wait_ready()
        yield made
        await _stop(made)
        await made.wait_until(lambda: not watch.left(), 5.0)
        assert not watch.left(), f"left behind: {watch.left()}"
        assert watch.most_engines <= 1, f"{watch.most_engines} llama-servers ran at once"


async def _stop(made: Cluster) -> None:
    for program in made.programs():
        await program.stop()


def _backend(setting: Setting, number: int, ports: list[int]) -> Backend:
    port, _, data_wire, agent_wire = ports[:4]
    settings = {
        "APP_MODE": "backend",
        "APP_PORT": str(port),
        "APP_AGENT_PORT": str(port + 1),
        "APP_MEM": "1024",
        "APP_THREADS": "1",
        "APP_CACHE_DIR": str(setting.folder / "cache"),
    }
    return Backend(_program(setting, f"backend-{number}", settings), port, data_wire, agent_wire)


def _server(setting: Setting, port: int, backends: list[Backend]) -> Program:
    listed = ",".join(f"127.0.0.1:{backend.data_wire}+agent={backend.agent_wire}" for backend in backends)
    settings = {
        "APP_MODE": "server",
        "APP_PORT": str(port),
        "APP_MODEL": str(setting.model),
        "APP_RPC_BACKENDS": listed,
        "APP_THREADS": "1",
        "APP_CTX_SIZE": "1024",
    }
    return _program(setting, "server", {**settings, **setting.environ})


def _program(setting: Setting, name: str, settings: Mapping[str, str]) -> Program:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("APP_", "LLAMA_"))}
    environ = {**inherited, "PYTHONPATH": str(ROOT), **PACE, **settings}
    return Program(name, (sys.executable, "-m", "rpc_wrapper", "run"), environ, setting.folder / f"{name}.log")


@asynccontextmanager
async def _network(backends: list[Backend]) -> AsyncIterator[Network]:
    wires = [(backend.data_wire, backend.port) for backend in backends]
    wires += [(backend.agent_wire, backend.port + 1) for backend in backends]
    argv = [sys.executable, "-m", "tests.fakes.wire", *(f"{port}=127.0.0.1:{target}" for port, target in wires)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, cwd=ROOT)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert (await process.stdout.readline()).decode().strip() == wire.READY
        yield Network(process)
    finally:
        process.stdin.close()
        await process.communicate()


def free_ports(count: int) -> list[int]:
    """Return so many neighbouring loopback ports that nobody has now."""
    starts = list(range(FIRST_PORT, LAST_PORT, count))
    Random().shuffle(starts)  # two runs beside each other should not meet
    for start in starts:
        ports = list(range(start, start + count))
        if all(map(_is_free, ports)):
            return ports
    raise AssertionError(f"no {count} free ports between {FIRST_PORT} and {LAST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

"""Run a demo's engine programs a second time, wired to each other without us: what links are to be compared with."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import psutil

from rpc_wrapper.bench.driver import Target
from rpc_wrapper.errors import StartFailed

DEADLINE_S = 300.0
POLL_S = 0.005
CANARY = {"prompt": "a", "n_predict": 1, "cache_prompt": False, "temperature": 0, "ignore_eos": True}


@dataclass(frozen=True, slots=True)
class Twin:
    """A bare llama-server over bare workers, and how long it took from its start to its first token."""

    target: Target
    load_s: float


@dataclass(frozen=True, slots=True)
class Programs:
    """The command lines of a cluster's engine programs."""

    server: tuple[str, ...]
    workers: tuple[tuple[str, ...], ...]


def programs_of(pid: int) -> Programs:
    """Return what a demo runs."""
    argvs = [tuple(child.cmdline()) for child in psutil.Process(pid).children()]
    [server] = [argv for argv in argvs if "--rpc" in argv]
    return Programs(server, tuple(argv for argv in argvs if argv != server))


def with_value(argv: Sequence[str], flag: str, value: object) -> list[str]:
    """Return a command line with another value after one of its flags."""
    at = list(argv).index(flag) + 1
    return [*argv[:at], str(value), *argv[at + 1 :]]


@asynccontextmanager
async def bare_twin(programs: Programs, environ: Mapping[str, str]) -> AsyncIterator[Twin]:
    """Yield the same programs with the same arguments but for their ports, without links and gates; raise StartFailed.

    llama-server wants no key here, and its devices stay in the same order.
    """
    server_port, *ports = free_ports(1 + len(programs.workers))
    async with AsyncExitStack() as stack:
        for argv, port in zip(programs.workers, ports, strict=True):
            await stack.enter_async_context(_running(with_value(argv, "--port", port), environ))
            await _until_listening(port)
        endpoints = ",".join(f"127.0.0.1:{port}" for port in ports)
        server = with_value(with_value(programs.server, "--rpc", endpoints), "--port", server_port)
        began = time.perf_counter()
        process = await stack.enter_async_context(_running(server, environ))
        target = Target("bare", f"http://127.0.0.1:{server_port}")
        await _first_token(process, target)
        yield Twin(target, time.perf_counter() - began)


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]


@asynccontextmanager
async def _running(argv: Sequence[str], environ: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program without its output; it is killed at the end, as it has nothing to lose."""
    nothing = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *argv, env=dict(environ), stdin=nothing, stdout=nothing, stderr=nothing
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _until_listening(port: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_S)
                continue
            writer.close()
            return


async def _first_token(process: asyncio.subprocess.Process, target: Target) -> None:
    async with asyncio.timeout(DEADLINE_S), httpx.AsyncClient(base_url=target.base_url, trust_env=False) as http:
        while process.returncode is None:
            with contextlib.suppress(httpx.TransportError):
                answer = await http.post("/completion", json=CANARY, timeout=DEADLINE_S)
                if answer.is_success:
                    return
            await asyncio.sleep(POLL_S)
    raise StartFailed(
        f"a bare llama-server ended with {process.returncode} before its first token: see what it prints",
        reason="unknown",
        returncode=process.returncode,
        last_lines=(),
    )

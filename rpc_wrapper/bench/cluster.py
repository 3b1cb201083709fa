"""Run ``rpc-wrapper`` commands of our own for the length of a measurement."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from rpc_wrapper.bench.driver import Target
from rpc_wrapper.errors import StartFailed

READY_DEADLINE_S = 300.0
STOP_DEADLINE_S = 30.0
POLL_S = 0.02
LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where commands run: a folder for their logs, and the environment they inherit."""

    folder: Path
    environ: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running demo: its process, its gateway, and the llama-server behind it."""

    pid: int
    gateway: Target
    engine: Target


def interrupt_on_sigterm() -> None:
    """Take SIGTERM like Ctrl-C from now on, so that clusters are stopped, not left behind.

    SIGINT is raised again instead of KeyboardInterrupt: asyncio.run cancels its main task on it, whereas an exception
    would come up wherever the program happens to be, in the middle of starting a process for one.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))


@asynccontextmanager
async def demo_cluster(place: Place, port: int, arguments: Sequence[str]) -> AsyncIterator[Cluster]:
    """Yield a demo on ``port`` as soon as its gateway is ready, and stop it afterwards; raise StartFailed."""
    revealed = place.folder / f"engine-{port}.json"
    revealed.unlink(missing_ok=True)  # an earlier demo on this port left it
    words = ["demo", "--port", str(port), "--reveal-engine", str(revealed), *arguments]
    url = f"http://127.0.0.1:{port}"
    async with command(place, words, f"{url}/readyz") as pid:
        yield Cluster(pid, Target("gateway", url, pid=pid), await _revealed_engine(revealed, pid))


@asynccontextmanager
async def command(place: Place, words: Sequence[str], ready_url: str) -> AsyncIterator[int]:
    """Run ``rpc-wrapper WORDS``; yield its pid as soon as the URL answers 200, and stop it afterwards."""
    log = place.folder / f"{words[0]}-{httpx.URL(ready_url).port}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rpc_wrapper", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(place.environ),
        )
    try:
        await _until_ready(process, ready_url, log)
        yield process.pid
    finally:
        await _stop(process)


async def _until_ready(process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:

        async def is_over() -> bool:
            return process.returncode is not None or await _is_ok(http, url)

        try:
            await _until(is_over)
        except TimeoutError:
            raise _start_failed(f"was not ready within {READY_DEADLINE_S:g} s", None, log) from None
    if process.returncode is not None:
        raise _start_failed(f"ended with {process.returncode}", process.returncode, log)


async def _until(claim: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again, as nothing tells us from another process; raise TimeoutError."""
    async with asyncio.timeout(READY_DEADLINE_S):
        while not await claim():  # noqa: ASYNC110  (another process has no event to wait for)
            await asyncio.sleep(POLL_S)


async def _is_ok(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx.TransportError:
        return False


def _start_failed(why: str, returncode: int | None, log: Path) -> StartFailed:
    last_lines = tuple(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
    message = "\n  ".join([f"the command under measurement {why}; its last lines:", *last_lines])
    return StartFailed(message, reason="unknown", returncode=returncode, last_lines=last_lines)


async def _revealed_engine(file: Path, pid: int) -> Target:
    """Wait until a demo has written where its engine is; ``pid`` carries the links, so it works there too."""

    async def is_written() -> bool:
        return _read(file) is not None

    await _until(is_written)
    engine = _read(file) or {}
    return Target("direct", engine["base_url"], engine["api_key"], pid)


def _read(file: Path) -> dict[str, str] | None:
    try:
        return dict(json.loads(file.read_text()))
    except (FileNotFoundError, ValueError):
        return None


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_DEADLINE_S):
                await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()

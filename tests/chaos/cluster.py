"""A demo cluster in a process of its own, and what can be done to its children."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil

READY_S = 120.0
POLL_S = 0.05
BLIP_S = 5.0
FREEZE_S = 60.0  # a frozen worker is thawed after that, noticed or not
SERVER, WORKER = "llama-server", "ggml-rpc-server"
DEMO = (sys.executable, "-m", "rpc_wrapper", "demo")


class FaultKind(StrEnum):
    """What is done to a child."""

    KILL_WORKER = "kill -9 worker"
    KILL_SERVER = "kill -9 llama-server"
    FREEZE_WORKER = "SIGSTOP worker"
    BLIP_WORKER = "SIGSTOP + CONT worker"


class Cluster:
    """A running demo: its gateway over HTTP, its children by process."""

    def __init__(self, process: asyncio.subprocess.Process, base_url: str) -> None:
        self._running = process
        self._process = psutil.Process(process.pid)
        self.http = httpx.AsyncClient(base_url=base_url, timeout=httpx.Timeout(300.0), trust_env=False)

    def children(self, name: str) -> list[psutil.Process]:
        """Return the living children of one program."""
        found = []
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if name.startswith(child.name()[:15]) and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
        return found

    async def wait_ready(self) -> None:
        """Wait until tokens come out."""
        deadline = time.monotonic() + READY_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await self.http.get("/readyz")).status_code == 200:
                    return
            if self._running.returncode is not None:
                raise RuntimeError("the demo ended by itself; its output says why")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the cluster was not ready after {READY_S:g} s")
            await asyncio.sleep(POLL_S)

    async def journal(self) -> dict[str, Any]:
        """Return what the gateway tells of its journal; nothing where it does not."""
        value: dict[str, Any] = (await self.http.get("/cluster")).json().get("journal", {})
        return value

    async def inject(self, kind: FaultKind, random: Random) -> None:
        """Do it, and for a freeze undo it; return when whatever it hit is well or gone."""
        victims = self.children(SERVER if kind is FaultKind.KILL_SERVER else WORKER)
        if not victims:
            return
        victim = random.choice(victims)
        with contextlib.suppress(psutil.NoSuchProcess):
            if kind in (FaultKind.KILL_SERVER, FaultKind.KILL_WORKER):
                victim.send_signal(signal.SIGKILL)
                return
            victim.send_signal(signal.SIGSTOP)
            await self._frozen(victim, kind)

    async def _frozen(self, victim: psutil.Process, kind: FaultKind) -> None:
        """Thaw a frozen worker after a blip, or once the engine was fenced because of it."""
        servers = {child.pid for child in self.children(SERVER)}
        deadline = time.monotonic() + (BLIP_S if kind is FaultKind.BLIP_WORKER else FREEZE_S)
        while time.monotonic() < deadline:
            is_fenced = servers != {child.pid for child in self.children(SERVER)}
            if is_fenced and kind is FaultKind.FREEZE_WORKER:
                break
            await asyncio.sleep(POLL_S)
        victim.send_signal(signal.SIGCONT)

    async def aclose(self) -> list[int]:
        """End the demo; return the pids that it left behind."""
        await self.http.aclose()
        if self._running.returncode is not None:
            return []
        children = self._process.children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.send_signal(signal.SIGINT)
        await asyncio.to_thread(psutil.wait_procs, [self._process, *children], 30.0)
        left = [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        for orphan in left:
            orphan.kill()
        return [orphan.pid for orphan in left]


@asynccontextmanager
async def demo(
    model: Path, port: int, engine_args: Sequence[str], command: Sequence[str] = DEMO, backends: int = 3
) -> AsyncIterator[Cluster]:
    """Run a demo cluster until the context ends; its output goes to our standard error."""
    options = ["--model", str(model), "--port", str(port), "--backends", str(backends)]
    argv = [*command, *options, *(["--", *engine_args] if engine_args else [])]
    process = await asyncio.create_subprocess_exec(*argv, stdout=sys.stderr)
    cluster = Cluster(process, f"http://127.0.0.1:{port}")
    try:
        await cluster.wait_ready()
        yield cluster
    finally:
        left = await cluster.aclose()
        await process.wait()
    if left:
        raise AssertionError(f"the demo left these processes behind: {left}")

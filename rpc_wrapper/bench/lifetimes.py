"""How long a cluster takes to start, cold and warm, and to answer again after a loss: as its clients see it."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from rpc_wrapper.bench.cluster import Place, command
from rpc_wrapper.bench.driver import Target
from rpc_wrapper.errors import UpstreamError

CANARY = {"prompt": "a", "n_predict": 1, "cache_prompt": False, "temperature": 0, "ignore_eos": True}
ANSWER_TIMEOUT_S = 600.0
VICTIMS = {"a worker is killed": "rpc-server", "llama-server is killed": "llama-server"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A cluster to start for a measurement: its name, and the arguments of ``rpc-wrapper demo``."""

    name: str
    arguments: tuple[str, ...]


@asynccontextmanager
async def own_cluster(place: Place, recipe: Recipe, port: int) -> AsyncIterator[Target]:
    """Yield a demo's gateway as soon as it is ready, and stop it afterwards; raise StartFailed."""
    url = f"http://127.0.0.1:{port}"
    async with command(place, ["demo", "--port", str(port), *recipe.arguments], f"{url}/readyz") as pid:
        yield Target(recipe.name, url, pid=pid)


async def start_times_s(place: Place, recipe: Recipe, ports: Sequence[int]) -> dict[str, list[float]]:
    """Start a cluster twice per port: with an empty tensor cache, then with the one that the first start filled.

    Returns seconds from the command to readiness. The model's file is in the page cache, or is after the first start.
    """
    found: dict[str, list[float]] = {"cold start": [], "warm start": []}
    for port in ports:
        with tempfile.TemporaryDirectory(dir=place.folder) as cache:
            cached = Recipe(recipe.name, (*recipe.arguments, "--cache", "on", "--cache-dir", cache))
            for seconds in found.values():
                began = time.perf_counter()
                async with own_cluster(place, cached, port):
                    seconds.append(time.perf_counter() - began)
    return found


async def recovery_times_s(target: Target, count: int) -> dict[str, list[float]]:
    """Kill a worker, then llama-server, so many times; return seconds from each kill to the next token for a client."""
    found: dict[str, list[float]] = {}
    timeout = httpx.Timeout(ANSWER_TIMEOUT_S)
    async with httpx.AsyncClient(base_url=target.base_url, timeout=timeout, trust_env=False) as http:
        for _ in range(count):
            for what, program in VICTIMS.items():
                process = _child(target, program)
                if process is None:
                    continue
                await _token(http)
                began = time.perf_counter()
                process.kill()
                await asyncio.to_thread(process.wait)
                await _token(http)
                found.setdefault(what, []).append(time.perf_counter() - began)
    return found


def _child(target: Target, program: str) -> psutil.Process | None:
    children = psutil.Process(target.pid).children(recursive=True) if target.pid else []
    named = [child for child in children if program in Path((child.cmdline() or [""])[0]).name]
    return named[0] if named else None


async def _token(http: httpx.AsyncClient) -> None:
    """Ask for a token until one comes; the gateway lets the request wait while it heals."""
    try:
        (await http.post("/completion", json=CANARY)).raise_for_status()
    except httpx.HTTPError as error:
        raise UpstreamError(f"no token came after a loss: {error or type(error).__name__}") from error

"""Put workloads to targets over HTTP, and stamp every piece of an answer as it arrives."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import httpx
import psutil

from rpc_wrapper.bench.stats import Round
from rpc_wrapper.bench.stream import Answer, Piece, read_answer
from rpc_wrapper.bench.workload import SEED_TEXT, Request, Workload, make_requests, order
from rpc_wrapper.errors import ConfigError, UpstreamError

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 600.0  # no byte for so long, and the run is given up
ERROR_CHARS = 300


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint under test; ``api_key`` is sent as a bearer token, ``pid`` is whose processor time to count."""

    name: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often each workload is repeated; the rounds of ``warm_up`` repeats come first and are thrown away."""

    repeats: int = 5
    warm_up: int = 1
    seed: int = 1

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.warm_up < 0:
            raise ConfigError(f"{self.repeats} repeats after {self.warm_up} for warm-up measure nothing: use 1 or more")


class Driver:
    """Ask targets, each through a client of its own; make it with :func:`open_driver`."""

    def __init__(
        self, targets: Sequence[Target], clients: dict[str, httpx.AsyncClient], vocabularies: dict[str, list[int]]
    ) -> None:
        self._targets = {target.name: target for target in targets}
        self._clients = clients
        self._vocabularies = vocabularies

    async def run(self, workloads: Sequence[Workload], schedule: Schedule) -> AsyncIterator[Round]:
        """Yield every measured round as it ends, interleaved over the targets; raise UpstreamError on a bad answer."""
        for workload in workloads:
            for repeat in range(-schedule.warm_up, schedule.repeats):
                for name in order(list(self._targets), repeat):
                    seed = f"{schedule.seed} {workload.label} {repeat}"  # the same prompts for every target
                    pid = self._targets[name].pid
                    before_s = used_s(pid)
                    answers = await self._answers(name, workload, Random(seed))
                    cpu_s = None if before_s is None else (used_s(pid) or before_s) - before_s
                    if repeat >= 0:
                        yield Round(name, workload.label, repeat, answers, cpu_s)

    async def _answers(self, name: str, workload: Workload, random: Random) -> tuple[Answer, ...]:
        lanes = make_requests(workload, self._vocabularies[name], random.random)
        began = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._lane(name, lane, began)) for lane in lanes]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # the others were cancelled for it
        return tuple(answer for task in tasks for answer in task.result())

    async def _lane(self, name: str, lane: Sequence[Request], began: float) -> list[Answer]:
        answers: list[Answer] = []
        for request in lane:
            await asyncio.sleep(max(0.0, began + request.due_s - time.perf_counter()))
            sent_s, pieces = await self._send(name, request, began)
            answers.append(read_answer(sent_s, pieces, len(request.prompt), request.n_predict))
        return answers

    async def _send(self, name: str, request: Request, began: float) -> tuple[float, list[Piece]]:
        """Return when the request was sent and what came when; nothing is parsed before the answer is whole."""
        body = request.body()
        sent_s = time.perf_counter() - began
        try:
            async with self._clients[name].stream("POST", "/completion", json=body) as response:
                if response.is_error:
                    text = (await response.aread()).decode(errors="replace")[:ERROR_CHARS]
                    raise UpstreamError(f"target {name} refused a request with {response.status_code}: {text}")
                return sent_s, [(time.perf_counter() - began, data) async for data in response.aiter_raw()]
        except httpx.HTTPError as error:
            raise UpstreamError(f"target {name} cannot be measured: {error or type(error).__name__}") from error


@asynccontextmanager
async def open_driver(targets: Sequence[Target]) -> AsyncIterator[Driver]:
    """Connect to every target and learn which tokens prompts may hold; raise ConfigError or UpstreamError."""
    names = [target.name for target in targets]
    if len(set(names)) != len(names) or not names:
        raise ConfigError(f"targets {', '.join(names) or '(none)'}: give one or more, each a name of its own")
    async with AsyncExitStack() as stack:
        clients = {target.name: await stack.enter_async_context(_client(target)) for target in targets}
        vocabularies = {name: await _vocabulary(name, client) for name, client in clients.items()}
        yield Driver(targets, clients, vocabularies)


def used_s(pid: int | None) -> float | None:
    """Return the processor time a process has used, in seconds, or None when it is not known."""
    if pid is None:
        return None
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def _client(target: Target) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    return httpx.AsyncClient(
        base_url=target.base_url,
        headers=headers,
        timeout=httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),  # each request on a fresh connection
        trust_env=False,
    )


async def _vocabulary(name: str, client: httpx.AsyncClient) -> list[int]:
    answer = await _asked(name, client, "POST", "/tokenize", {"content": SEED_TEXT, "add_special": False})
    ids = answer.get("tokens")
    if not isinstance(ids, list) or not ids:
        raise UpstreamError(f"target {name} cannot tokenize a text: is it a llama-server?")
    return [int(token) for token in ids]


async def engine_version(target: Target) -> str:
    """Return what a target says of its llama.cpp build, or ``unknown``."""
    async with _client(target) as client:
        return str((await _asked(target.name, client, "GET", "/props", None)).get("build_info", "unknown"))


async def _asked(name: str, client: httpx.AsyncClient, method: str, path: str, body: object) -> dict[str, object]:
    try:
        answer = (await client.request(method, path, json=body)).raise_for_status().json()
    except (httpx.InvalidURL, httpx.HTTPError, ValueError) as error:
        raise UpstreamError(f"target {name} does not answer {path}: {error or type(error).__name__}") from error
    return answer if isinstance(answer, dict) else {}

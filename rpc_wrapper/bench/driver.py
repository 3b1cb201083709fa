"""Put workloads to targets over HTTP, and stamp every piece of an answer as it arrives."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
import psutil

from rpc_wrapper.bench.stats import Round
from rpc_wrapper.bench.stream import Answer, Piece, read_answer, read_chat, read_embedding
from rpc_wrapper.bench.watch import Watch, between, listener_pid, plan_text
from rpc_wrapper.bench.workload import (
    SEED_TEXT,
    SPOKEN,
    Kind,
    Material,
    Request,
    Workload,
    make_requests,
    order,
    words,
)
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


@dataclass(frozen=True, slots=True)
class Bench:
    """A target on the bench: the client to ask it with, what is known of its processes, the model's name there."""

    target: Target
    http: httpx.AsyncClient
    watch: Watch
    model: str


class Driver:
    """Ask targets, each through a client of its own; make it with :func:`open_driver`."""

    def __init__(self, benches: Sequence[Bench]) -> None:
        self._benches = {bench.target.name: bench for bench in benches}

    async def plans(self) -> dict[str, str]:
        """Return which target holds what where, as far as they tell."""
        texts = {name: plan_text(await bench.watch.cluster()) for name, bench in self._benches.items()}
        return {name: text for name, text in texts.items() if text}

    async def run(self, workloads: Sequence[Workload], schedule: Schedule) -> AsyncIterator[Round]:
        """Yield every measured round as it ends, interleaved over the targets; raise UpstreamError on a bad answer."""
        for workload in workloads:
            materials = {name: await _material(bench, workload) for name, bench in self._benches.items()}
            for repeat in range(-schedule.warm_up, schedule.repeats):
                for name in order(list(self._benches), repeat):
                    seed = f"{schedule.seed} {workload.label} {repeat}"  # the same prompts for every target
                    lanes = make_requests(workload, materials[name], Random(seed).random)
                    one = await self._round(self._benches[name], workload, lanes, repeat)
                    if repeat >= 0:
                        yield one

    async def _round(self, bench: Bench, workload: Workload, lanes: list[list[Request]], repeat: int) -> Round:
        before, before_s = await bench.watch.read(), used_s(bench.target.pid)
        answers = await _answers(bench, lanes)
        after_s = used_s(bench.target.pid)
        nodes, link_bytes = between(before, await bench.watch.read())
        cpu_s = None if before_s is None else (after_s or before_s) - before_s
        return Round(bench.target.name, workload.label, repeat, answers, cpu_s, nodes, link_bytes)


async def _answers(bench: Bench, lanes: Sequence[Sequence[Request]]) -> tuple[Answer, ...]:
    began = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_lane(bench, lane, began)) for lane in lanes]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # the others were cancelled for it
    return tuple(answer for task in tasks for answer in task.result())


async def _lane(bench: Bench, lane: Sequence[Request], began: float) -> list[Answer]:
    answers: list[Answer] = []
    for request in lane:
        await asyncio.sleep(max(0.0, began + request.due_s - time.perf_counter()))
        answers.append(await _ask(bench, request, began))
    return answers


async def _ask(bench: Bench, request: Request, began: float) -> Answer:
    if request.kind is Kind.STEPS:
        return await _ask_by_steps(bench, request, began)
    sent_s, pieces = await _send(bench, request, began)
    if request.kind is Kind.CHAT:
        return read_chat(sent_s, pieces, len(str(request.prompt).split()))
    if request.kind is Kind.EMBEDDINGS:
        return read_embedding(sent_s, pieces)
    return read_answer(sent_s, pieces, len(request.prompt), request.n_predict)


async def _ask_by_steps(bench: Bench, request: Request, began: float) -> Answer:
    """Ask for one token after the other, each time with everything before it, as a client without a session does."""
    prompt = tuple(int(token) for token in request.prompt)
    sent_s, token_at_s = time.perf_counter() - began, []
    ids = list(prompt)
    for _ in range(request.n_predict):
        body = request.body() | {"prompt": ids, "n_predict": 1, "stream": False, "return_tokens": True}
        ids += (await _asked(bench.target.name, bench.http, "POST", request.path, body))["tokens"]
        token_at_s.append(time.perf_counter() - began)
    return Answer(sent_s, tuple(token_at_s), len(prompt))


async def _send(bench: Bench, request: Request, began: float) -> tuple[float, list[Piece]]:
    """Return when the request was sent and what came when; nothing is parsed before the answer is whole."""
    body, name = request.body(bench.model), bench.target.name
    sent_s = time.perf_counter() - began
    try:
        async with bench.http.stream("POST", request.path, json=body) as response:
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
        clients = [await stack.enter_async_context(_client(target)) for target in targets]
        yield Driver([await _bench(*pair) for pair in zip(targets, clients, strict=True)])


async def _bench(target: Target, http: httpx.AsyncClient) -> Bench:
    root_pid = target.pid or await asyncio.to_thread(listener_pid, target.base_url)
    return Bench(target, http, Watch(http, root_pid), await _model(http))


async def _model(http: httpx.AsyncClient) -> str:
    """Return the name of the first model an OpenAI endpoint lists, empty when it lists none."""
    try:
        models = (await http.get("/v1/models")).raise_for_status().json()["data"]
        return str(models[0]["id"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        return ""


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


async def _material(bench: Bench, workload: Workload) -> Material:
    """Return what a target's prompts are made of; raise UpstreamError."""
    if workload.kind in SPOKEN:
        return Material(n_words=0 if workload.texts else await _word_count(bench, workload))
    texts = [await _tokenized(bench, text, add_special=True) for text in workload.texts]
    return Material(await _tokenized(bench, SEED_TEXT, add_special=False), tuple(texts))


async def _tokenized(bench: Bench, text: str, *, add_special: bool) -> tuple[int, ...]:
    body = {"content": text, "add_special": add_special}
    ids = (await _asked(bench.target.name, bench.http, "POST", "/tokenize", body)).get("tokens")
    if not isinstance(ids, list) or not ids:
        raise UpstreamError(f"target {bench.target.name} cannot tokenize a text: is it a llama-server?")
    return tuple(int(token) for token in ids)


async def _word_count(bench: Bench, workload: Workload) -> int:
    """Return how many words make the prompt about as long as was asked for, template included: found by two trials."""
    few, many = 4, 4 + workload.prompt_tokens
    draw = Random(0).random
    few_tokens = await _prompt_tokens(bench, workload.kind, words(few, draw))
    many_tokens = await _prompt_tokens(bench, workload.kind, words(many, draw))
    per_word = max((many_tokens - few_tokens) / (many - few), 0.1)
    return max(1, few + round((workload.prompt_tokens - few_tokens) / per_word))


async def _prompt_tokens(bench: Bench, kind: Kind, text: str) -> int:
    request = Request(text, 1, kind=kind)
    body = request.body(bench.model) | ({"stream": False} if kind is Kind.CHAT else {})
    body.pop("stream_options", None)
    usage = (await _asked(bench.target.name, bench.http, "POST", request.path, body)).get("usage")
    return int(usage["prompt_tokens"]) if isinstance(usage, dict) else len(text.split())


async def engine_version(target: Target) -> str:
    """Return what a target says of its llama.cpp build, or ``unknown``."""
    async with _client(target) as client:
        return str((await _asked(target.name, client, "GET", "/props", None)).get("build_info", "unknown"))


async def _asked(name: str, client: httpx.AsyncClient, method: str, path: str, body: object) -> dict[str, Any]:
    try:
        answer = (await client.request(method, path, json=body)).raise_for_status().json()
    except (httpx.InvalidURL, httpx.HTTPError, ValueError) as error:
        raise UpstreamError(f"target {name} does not answer {path}: {error or type(error).__name__}") from error
    return answer if isinstance(answer, dict) else {}

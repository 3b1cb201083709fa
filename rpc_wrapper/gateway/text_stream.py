"""``GET /stream``: docker-distributed-llm's stream of texts, then its times and each node's load, then ``[DONE]``."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from rpc_wrapper.devices import MIB
from rpc_wrapper.errors import RPCWrapperError
from rpc_wrapper.gateway import headers
from rpc_wrapper.gateway.endpoints import ENDPOINTS
from rpc_wrapper.gateway.errors import Problem, Refusal
from rpc_wrapper.gateway.exchange import EngineAnswer, EngineRequest
from rpc_wrapper.gateway.journal.reading import Dialect, Nature, read
from rpc_wrapper.gateway.journal.sse import Splitter, encode
from rpc_wrapper.gateway.node import SERVER
from rpc_wrapper.gateway.proxy import Proxy, while_client_stays
from rpc_wrapper.gateway.upstream import Upstream
from rpc_wrapper.gateway.visit import Visit, tokens_in

DEFAULT_TOKENS, MOST_TOKENS = 256, 1024
SAMPLE_S = 0.45  # twice a second, the looking itself counted in
DONE = b"data: [DONE]\n\n"


ROOT = "backend"  # what that project calls the machine that serves


async def observed(upstream: Upstream) -> list[dict[str, Any]]:
    """Return a row per node, fresh, the serving one first."""
    await upstream.observe()
    nodes: list[dict[str, Any]] = upstream.snapshot().get("nodes") or []
    return sorted(nodes, key=lambda node: node["name"] != SERVER)


class Loads:
    """The highest and the mean of what each node used while one request ran."""

    def __init__(self) -> None:
        self._cpu: dict[str, list[float]] = {}
        self._memory: dict[str, list[float]] = {}

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was added yet."""
        return not self._memory

    def add(self, nodes: list[dict[str, Any]]) -> None:
        """Add one look at the nodes, the serving one first; what a node did not say is not counted."""
        for number, node in enumerate(nodes):
            name = f"worker{number}" if number else ROOT
            if node["cpu_percent"] is not None:
                self._cpu.setdefault(name, []).append(node["cpu_percent"])
            if node["rss_bytes"] is not None:
                self._memory.setdefault(name, []).append(node["rss_bytes"] / MIB)

    def to_json(self) -> dict[str, Any]:
        """Return both under that project's names."""
        return {"cpu_stats": _extremes(self._cpu), "mem_stats": _extremes(self._memory)}


def _extremes(samples: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    return {
        name: {"max": round(max(values), 1), "avg": round(sum(values) / len(values), 1)}
        for name, values in samples.items()
    }


class TextStream:
    """The ASGI application behind the path; generation takes the same way as ``/completion``'s."""

    def __init__(self, proxy: Proxy, upstream: Upstream, queue_wait_s: float) -> None:
        self._proxy = proxy
        self._upstream = upstream
        self._queue_wait_s = queue_wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raise Refusal (400) for parameters that make no sense."""
        request = self._request(scope)
        await while_client_stays(receive, self._serve(request, send))

    def _request(self, scope: Scope) -> EngineRequest:
        prompt, max_tokens = parameters(scope["query_string"])
        visit: Visit = scope["state"]["visit"]
        visit.is_work = True
        return EngineRequest(
            endpoint=ENDPOINTS["/completion"],
            method="POST",
            query=b"",
            headers=[(b"content-type", b"application/json")],
            body=json.dumps({"prompt": prompt, "n_predict": max_tokens, "stream": True}).encode(),
            request_id=visit.request_id,
            ready_wait_s=self._queue_wait_s,
            visit=visit,
        )

    async def _serve(self, request: EngineRequest, send: Send) -> None:
        head = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        loads = Loads()
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(self._watch(loads))
            async for event in self._events(request, loads):
                await send({"type": "http.response.body", "body": event, "more_body": True})
            watcher.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, loads: Loads) -> None:
        while True:
            loads.add(await observed(self._upstream))
            await asyncio.sleep(SAMPLE_S)

    async def _events(self, request: EngineRequest, loads: Loads) -> AsyncIterator[bytes]:
        """Yield the events; a failure is one of them, since the answer has begun."""
        try:
            async with self._proxy.ask(request) as answer:
                if answer.status != 200 or not headers.is_event_stream(answer.headers):
                    yield _failed(request.visit, await _message(answer))
                    return
                async for event in _texts(request.visit, answer):
                    yield event
                if request.visit.has_error_event:
                    return
        except RPCWrapperError as error:
            yield _failed(request.visit, str(error))
            return
        if loads.is_empty:  # it was over before anybody had looked
            loads.add(await observed(self._upstream))
        yield encode("", {**_times(request.visit), **loads.to_json(), **_more(request.visit)})
        yield DONE


def parameters(query: bytes) -> tuple[str, int]:
    """Return the prompt and how many tokens to generate at most; raise Refusal (400)."""
    given = parse_qs(query.decode(errors="replace"), keep_blank_values=True)  # curl sends UTF-8 as it is typed
    if "prompt" not in given:
        raise Refusal(_invalid("There is no prompt: ask for /stream?prompt=TEXT&max_tokens=N."))
    text = given.get("max_tokens", [str(DEFAULT_TOKENS)])[-1]
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_TOKENS):
        raise Refusal(_invalid(f"max_tokens is {text[:20]!r}: give a number from 1 to {MOST_TOKENS}."))
    return given["prompt"][-1], int(text)


def _invalid(message: str) -> Problem:
    return Problem(400, "invalid_request", message)


async def _texts(visit: Visit, answer: EngineAnswer) -> AsyncIterator[bytes]:
    """Yield an event per text of llama-server's stream, and its comments as they are."""
    splitter = Splitter()
    async for chunk in answer.chunks:
        for raw in splitter.feed(chunk):
            reading = read(raw, Dialect.NATIVE)
            match reading.nature:
                case Nature.COMMENT:
                    yield raw
                case Nature.ERROR:
                    yield _failed(visit, _sentence(reading.event.value if reading.event else None))
                    return
            if reading.text:
                visit.token_came(time.monotonic())
                yield encode("", {"text": reading.text})
            visit.tokens = tokens_in(raw) or visit.tokens


def _times(visit: Visit) -> dict[str, float]:
    """Return the time to the first token, before its simulated delay as that project counts it, and all delays."""
    undelayed_s = visit.ttft_s if visit.undelayed_ttft_s is None else visit.undelayed_ttft_s
    return {"ttft": round(undelayed_s or 0.0, 4), "total_delay": round(visit.total_delay_s, 4)}


def _more(visit: Visit) -> dict[str, Any]:
    """Return what that project does not tell."""
    return {
        "ttft_with_delay": round(visit.ttft_s or 0.0, 4),
        "tokens": visit.n_generated,
        "resumed": visit.resumed,
        "request_id": visit.request_id,
    }


def _failed(visit: Visit, message: str) -> bytes:
    visit.has_error_event = True
    return encode("", {"error": message})


async def _message(answer: EngineAnswer) -> str:
    body = b"".join([chunk async for chunk in answer.chunks])
    try:
        return _sentence(json.loads(body))
    except ValueError:
        return f"the engine answered with status {answer.status}"


def _sentence(value: Any) -> str:
    error = value.get("error") if isinstance(value, dict) else None
    return str(error["message"]) if isinstance(error, dict) and "message" in error else "the engine failed"

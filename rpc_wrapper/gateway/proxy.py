"""Pass requests on to the engine and its bytes back: untouched, unbuffered, and no longer than the client stays."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from starlette.types import Receive, Scope, Send

from rpc_wrapper.access import Headers, find
from rpc_wrapper.errors import NotReady, RPCWrapperError
from rpc_wrapper.gateway import fields, headers
from rpc_wrapper.gateway.admission import Gate
from rpc_wrapper.gateway.endpoints import EngineEndpoint, Kind, Shape, find_endpoint
from rpc_wrapper.gateway.errors import (
    Problem,
    Refusal,
    body_of,
    headers_of,
    not_ready,
    problem_of,
    sse_event,
    too_large,
)
from rpc_wrapper.gateway.exchange import EngineAnswer, EngineRequest, Exchange
from rpc_wrapper.gateway.upstream import Upstream
from rpc_wrapper.gateway.visit import shows_token


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost."""

    max_body_bytes: int
    queue_wait_s: float
    passthrough_all: bool = False


class Proxy:
    """The ASGI application behind every path that is not the gateway's own."""

    def __init__(self, limits: Limits, upstream: Upstream, gates: dict[Kind, Gate], exchange: Exchange) -> None:
        self._limits = limits
        self._upstream = upstream
        self._gates = gates
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raise Refusal for what the engine should not even see."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})  # llama-server speaks none (RFC 6455, 7.4.1)
            return
        endpoint = find_endpoint(scope["method"], scope["path"], passthrough_all=self._limits.passthrough_all)
        reply = Reply(send, endpoint)
        try:
            request = await self._read(scope, receive, endpoint)
        except ClientLeft:
            return
        reply.headers += _unknown_fields(request)
        await while_client_stays(receive, self._answer(request, reply))

    async def _read(self, scope: Scope, receive: Receive, endpoint: EngineEndpoint) -> EngineRequest:
        return EngineRequest(
            endpoint=endpoint,
            method=scope["method"],
            query=scope["query_string"],
            headers=list(scope["headers"]),
            body=await read_body(receive, scope["headers"], self._limits.max_body_bytes),
            request_id=scope["state"]["request_id"],
            ready_wait_s=0.0 if endpoint.kind is Kind.STATUS else self._limits.queue_wait_s,
            visit=scope["state"]["visit"],
        )

    async def _answer(self, request: EngineRequest, reply: "Reply") -> None:
        try:
            async with self.ask(request) as answer:
                await reply.begin(answer)
                async for chunk in answer.chunks:
                    await reply.write(chunk)
            await reply.finish()
        except NotReady as error:
            await reply.fail(not_ready(str(error), error.retry_after_s, self._upstream.progress()))
        except RPCWrapperError as error:
            await reply.fail(problem_of(error))

    @asynccontextmanager
    async def ask(self, request: EngineRequest) -> AsyncIterator[EngineAnswer]:
        """Yield the engine's answer when it is this request's turn; raise NotReady, QueueFull or EngineLost."""
        async with self._admitted(request) as admitted, self._exchange(admitted) as answer:
            generates = request.endpoint.generates and answer.status == 200
            yield replace(answer, chunks=self._noted(answer.chunks)) if generates else answer

    async def _noted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            if shows_token(chunk):
                self._upstream.note_token()
            yield chunk

    @asynccontextmanager
    async def _admitted(self, request: EngineRequest) -> AsyncIterator[EngineRequest]:
        """Hold a place in the line; what was waited there is taken off the time the engine has to come back."""
        gate = self._gates.get(request.endpoint.kind)
        if gate is None or request.method == "OPTIONS":
            yield replace(request, ready_wait_s=0.0)
            return
        if not self._upstream.ever_ready:
            await self._upstream.ensure_ready(0.0)
        clock = asyncio.get_running_loop().time
        came_at, visit = clock(), request.visit
        try:
            async with gate.place(request.ready_wait_s):
                visit.queued_s = clock() - came_at
                yield replace(request, ready_wait_s=max(0.0, request.ready_wait_s - visit.queued_s))
        finally:
            visit.queued_s = clock() - came_at if visit.queued_s is None else visit.queued_s


class Reply:
    """The answer to one client; it knows how far it got, so that it can end honestly."""

    def __init__(self, send: Send, endpoint: EngineEndpoint) -> None:
        self.headers: Headers = []
        self._send = send
        self._anthropic = endpoint.is_anthropic
        self._started = False
        self._is_event_stream = False
        self._tail = b"\n\n"

    async def begin(self, answer: EngineAnswer) -> None:
        """Send the engine's status and headers."""
        self._is_event_stream = headers.is_event_stream(answer.headers)
        await self._start(answer.status, headers.for_client(answer.headers) + self.headers)

    async def write(self, chunk: bytes) -> None:
        """Send bytes as they are."""
        self._tail = (self._tail + chunk)[-2:]
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def finish(self) -> None:
        """End the answer."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, problem: Problem) -> None:
        """End with a problem: as the whole answer, or as the last event of a stream.

        Bytes that are neither cannot be taken back: the answer stays unfinished, and the server cuts the connection.
        """
        if not self._started:
            encoded = [(key.encode(), value.encode()) for key, value in headers_of(problem)]
            body = body_of(problem, anthropic=self._anthropic)
            await self._start(problem.status, [*encoded, (b"content-length", b"%d" % len(body)), *self.headers])
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
        elif self._is_event_stream:
            cut = b"" if self._tail == b"\n\n" else b"\n\n"
            await self.write(cut + sse_event(problem, anthropic=self._anthropic))
            await self.finish()

    async def _start(self, status: int, headers: Headers) -> None:
        self._started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


class ClientLeft(Exception):
    """The client went away before its request was complete."""


async def read_body(receive: Receive, request_headers: Headers, limit_bytes: int) -> bytes:
    """Return the whole body; raise Refusal (413) as soon as it proves too long, ClientLeft when it ends early."""
    declared = find(request_headers, b"content-length") or b""
    if declared.isdigit() and int(declared) > limit_bytes:
        raise Refusal(too_large(limit_bytes))
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise Refusal(too_large(limit_bytes))
        if not message.get("more_body", False):
            return bytes(body)


async def while_client_stays(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` to its end, or cancel it as soon as the client is gone, however silent the engine is."""
    async with asyncio.TaskGroup() as group:
        worker = group.create_task(work)
        watcher = group.create_task(_client_gone(receive))
        watcher.add_done_callback(lambda _: worker.cancel())
        worker.add_done_callback(lambda _: watcher.cancel())


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _unknown_fields(request: EngineRequest) -> Headers:
    """Name the fields that will be ignored; raise Refusal (400) when the body is not what the engine can parse."""
    if request.endpoint.shape is Shape.NONE or request.method != "POST":
        return []
    if (find(request.headers, b"content-type") or b"").lower().startswith(b"multipart/"):
        return []
    unknown = fields.unknown_fields(request.endpoint.shape, fields.parse_object(request.body).keys())
    return [(b"x-unknown-fields", fields.header_value(unknown))] if unknown else []

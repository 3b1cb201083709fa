"""``GET /cluster/events``: the cluster as it changes, for as many watchers as look, at the price of one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from rpc_wrapper.errors import NotReady
from rpc_wrapper.gateway.errors import Problem, Refusal
from rpc_wrapper.gateway.tape import PING, Tape
from rpc_wrapper.gateway.upstream import Upstream

OBSERVE_S = 0.45  # how often the machines are asked while somebody watches: twice a second and a little
SETTLE_S = 0.1  # changes that follow each other closer than this go out together
PING_S = 15.0
MAX_WATCHERS = 128
LAST_SEEN = "last-event-id"  # the header of the EventSource standard, 9.2


class Live:
    """One tape for all watchers; without any, nothing is asked and nothing is written."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._tape = Tape(uuid4().hex[:8])
        self._watchers = 0
        self._is_closed = False
        self._watched = asyncio.Event()
        self._bell = asyncio.Event()  # replaced at each change, so that nobody misses one

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write the tape while the context lasts and somebody reads it."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (self._observe(), self._follow())]
            yield
            for task in tasks:
                task.cancel()

    def close(self) -> None:
        """End every stream, and begin no other."""
        self._is_closed = True
        self._ring()

    def create_router(self) -> APIRouter:
        """Return the route."""
        router = APIRouter()
        router.add_api_route("/cluster/events", self.events, methods=["GET"], response_model=None)
        return router

    async def events(self, request: Request) -> StreamingResponse:
        """Answer a watcher: a snapshot first, or what it has missed since its Last-Event-ID, then every change."""
        if self._is_closed:
            raise NotReady("The server is shutting down.", PING_S)
        if self._watchers >= MAX_WATCHERS:
            message = f"{MAX_WATCHERS} clients watch the cluster already, which is all there may be: close one."
            raise Refusal(Problem(503, "too_many_watchers", message, "unavailable_error", retry_after_s=PING_S))
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        stream = self._stream(request.headers.get(LAST_SEEN))
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def _stream(self, seen: str | None) -> AsyncIterator[bytes]:
        with self._watching():
            while not self._is_closed:
                bell = self._bell
                if news := self._tape.since(seen):
                    seen = self._tape.newest
                    yield news
                elif not await _rings(bell):
                    yield PING

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        self._watchers += 1
        self._record()
        self._watched.set()
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._watched.clear()

    def _record(self) -> None:
        if self._tape.record(self._upstream.snapshot()):
            self._ring()

    def _ring(self) -> None:
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

    async def _observe(self) -> None:
        """Ask the machines again and again, and write down what they and the links have done since."""
        while True:
            await self._watched.wait()
            await self._upstream.observe()
            self._record()
            await asyncio.sleep(OBSERVE_S)

    async def _follow(self) -> None:
        """Write down what happens to the engine as it happens, and how the machines are at that moment."""
        while True:
            await self._watched.wait()
            await self._upstream.changed()
            await asyncio.sleep(SETTLE_S)
            self._record()
            await self._upstream.observe()
            self._record()


async def _rings(bell: asyncio.Event) -> bool:
    """Wait for a bell; tell whether it rang before a sign of life was due."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PING_S):
            await bell.wait()
            return True
    return False

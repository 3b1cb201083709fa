"""The agent's HTTP face: how the backend is, and whether its worker does its job."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rpc_wrapper.access import Caller, accepted_request_id, holds_key, is_from_this_machine
from rpc_wrapper.agent.keeper import Keeper
from rpc_wrapper.agent.metrics import Facts, agent_families
from rpc_wrapper.agent.report import Reporter
from rpc_wrapper.agent.worker import Worker, process_state
from rpc_wrapper.link.gate import Gate
from rpc_wrapper.logs import fields
from rpc_wrapper.metrics.exposition import CONTENT_TYPE, render, wants_json
from rpc_wrapper.metrics.gpu import GPUReader, read_gpus
from rpc_wrapper.supervisor import State
from rpc_wrapper.usage import usage

log = logging.getLogger(__name__)


class Agent:
    """What the agent tells of one worker."""

    def __init__(
        self,
        keeper: Keeper,
        worker: Worker,
        gate: Gate,
        *,
        worker_id: str,
        budget_bytes: int,
        cache: Path | None = None,
    ) -> None:
        self.keeper = keeper
        self._runner = keeper.runner
        self._worker = worker
        self.gate = gate
        self._gpus = GPUReader()
        self._worker_id = worker_id
        self._budget_bytes = budget_bytes
        self._cache = cache
        self._reporter = Reporter(worker_id)
        self._began = time.monotonic()

    @property
    def is_up(self) -> bool:
        """Tell whether the worker answers."""
        return self._runner.snapshot().state is State.READY

    def status(self, asker: str | None = None) -> Mapping[str, Any]:
        """Return the body of ``GET /status`` for who asks; some of its words are docker-distributed-llm's."""
        snapshot, gate = self._runner.snapshot(), self.gate.snapshot()
        uptime_s = round(time.monotonic() - self._began, 3)
        used = usage(snapshot.pid)
        return {
            "worker_id": self._worker_id,
            "status": "online" if self.is_up else "offline",
            "is_available": self.is_up,
            "uptime_seconds": uptime_s,
            "uptime_s": uptime_s,
            "state": snapshot.state.value,
            "since": snapshot.since,
            "reason": snapshot.reason,
            "pid": snapshot.pid,
            "process": process_state(snapshot.pid),
            "cpu_s": used.cpu_s if used else None,
            "rss_bytes": used.rss_bytes if used else None,
            "agent_pid": os.getpid(),
            "budget_bytes": self._budget_bytes,
            "devices": list(self._worker.device_names),
            "restarts": snapshot.restarts,
            "last_exit": str(snapshot.last_exit) if snapshot.last_exit else None,
            "held_by_another": gate.holder not in (None, asker),  # a server's own lease may outlive its engine
            "gate": gate.to_json(),
        }

    def gpus(self) -> list[Mapping[str, Any]]:
        """Return what was read last of this machine's GPUs; on the event loop only."""
        return [gpu.to_json() for gpu in self._gpus.latest()]

    async def facts(self) -> Facts:
        """Return what the metrics are made of; disks and drivers are asked beside the event loop."""
        cache_bytes = await asyncio.to_thread(_size_bytes, self._cache) if self._cache else None
        gpus = await asyncio.to_thread(read_gpus)
        snapshot = self._runner.snapshot()
        return Facts(
            worker=snapshot,
            gate=self.gate.snapshot(),
            budget_bytes=self._budget_bytes,
            cache_bytes=cache_bytes,
            agent_usage=usage(os.getpid()),
            worker_usage=usage(snapshot.pid),
            gpus=gpus,
        )

    async def report(self) -> Mapping[str, Any]:
        """Return the worker's figures in JSON; an ``error`` when it does not run."""
        gpus = await asyncio.to_thread(read_gpus)
        snapshot = self._runner.snapshot()
        found = self._reporter.report(snapshot.pid, is_up=self.is_up, gpus=gpus)
        absent = {"worker_id": self._worker_id, "status": "offline", "error": f"the worker is {snapshot.state}"}
        return found or absent


def _size_bytes(folder: Path) -> int:
    """Return what the files under a folder take; those that vanish meanwhile take nothing."""
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _asker(request: Request) -> str | None:
    return request.client.host if request.client else None


def create_app(agent: Agent, token: str | None = None) -> FastAPI:
    """Return the agent's app over a worker that somebody else runs.

    Who starts and stops it needs the token; without one that works from this machine alone.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with agent.gate:
            yield

    app = FastAPI(title="rpc-wrapper agent", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.get("/status")
    async def status(request: Request) -> JSONResponse:
        return JSONResponse({**agent.status(_asker(request)), "gpus": agent.gpus()})

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """Answer 200 while the worker answers, else 503 with the reason."""
        body = agent.status()
        return JSONResponse(
            {"ok": agent.is_up, "state": body["state"], "reason": body["reason"]}, 200 if agent.is_up else 503
        )

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Answer Prometheus; to who asks for JSON, under docker-distributed-llm's names."""
        if wants_json(request.headers.get("accept", "")):
            body = await agent.report()
            return JSONResponse(dict(body), 404 if "error" in body else 200)
        return Response(render(agent_families(await agent.facts())), media_type=CONTENT_TYPE)

    _add_controls(app, agent, token)
    app.add_middleware(RequestIds)
    return app


def _add_controls(app: FastAPI, agent: Agent, token: str | None) -> None:
    """Let those who may start and stop the worker."""
    changing = asyncio.Lock()  # one change at a time, however many ask

    def control(verb: Callable[[], Awaitable[str]]) -> Callable[[Request], Awaitable[JSONResponse]]:
        async def handle(request: Request) -> JSONResponse:
            refusal = _refusal(request, token)
            if refusal is not None:
                return refusal
            async with changing:
                done = await verb()
            request_id = request.state.request_id
            log.info("%s: %s (request %s)", request.url.path, done, request_id, extra=fields(request_id=request_id))
            return JSONResponse({"status": done, "worker_id": agent.status()["worker_id"]})

        return handle

    keeper = agent.keeper
    for path, verb in (
        ("start", keeper.start_worker),
        ("stop", keeper.stop_worker),
        ("restart", keeper.restart_worker),
    ):
        app.add_api_route(f"/{path}", control(verb), methods=["POST"])


class RequestIds:
    """Give every request an id, its caller's own when it is safe to print, and every answer the same."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's event stream."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = accepted_request_id(scope["headers"]) or uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        await self._app(scope, receive, stamped)


def _refusal(request: Request, token: str | None) -> JSONResponse | None:
    """Return why a caller may not change anything, None when it may."""
    peer = request.client.host if request.client else None
    caller = Caller(request.method, request.url.path, list(request.scope["headers"]), peer)
    if token is not None and not holds_key(caller, [token]):
        return JSONResponse({"error": "this needs the agent's token: send it as Authorization: Bearer"}, 401)
    if token is None and not is_from_this_machine(caller):
        return JSONResponse({"error": "without APP_AGENT_TOKEN this works from the agent's own machine only"}, 403)
    return None

"""The agent's HTTP face: how the backend is, and whether its worker does its job."""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psutil
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from rpc_wrapper.access import Caller, holds_key, is_from_this_machine
from rpc_wrapper.agent.keeper import Keeper
from rpc_wrapper.agent.worker import Worker
from rpc_wrapper.link.gate import Gate
from rpc_wrapper.supervisor import State


class Agent:
    """What the agent tells of one worker."""

    def __init__(self, keeper: Keeper, worker: Worker, gate: Gate, *, worker_id: str, budget_bytes: int) -> None:
        self.keeper = keeper
        self._runner = keeper.runner
        self._worker = worker
        self.gate = gate
        self._worker_id = worker_id
        self._budget_bytes = budget_bytes
        self._began = time.monotonic()

    @property
    def is_up(self) -> bool:
        """Tell whether the worker answers."""
        return self._runner.snapshot().state is State.READY

    def status(self) -> Mapping[str, Any]:
        """Return the body of ``GET /status``; `status` and `is_available` are docker-distributed-llm's words."""
        snapshot = self._runner.snapshot()
        uptime_s = round(time.monotonic() - self._began, 3)
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
            "agent_pid": os.getpid(),
            "budget_bytes": self._budget_bytes,
            "devices": list(self._worker.device_names),
            "restarts": snapshot.restarts,
            "last_exit": str(snapshot.last_exit) if snapshot.last_exit else None,
            "gate": self.gate.snapshot().to_json(),
        }


def process_state(pid: int | None) -> str | None:
    """Return what the kernel says of a process (running, sleeping, stopped ...), None when there is none."""
    try:
        return str(psutil.Process(pid).status()) if pid is not None else None
    except psutil.Error:
        return None


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
    async def status() -> JSONResponse:
        return JSONResponse(dict(agent.status()))

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """Answer 200 while the worker answers, else 503 with the reason."""
        body = agent.status()
        return JSONResponse(
            {"ok": agent.is_up, "state": body["state"], "reason": body["reason"]}, 200 if agent.is_up else 503
        )

    def control(verb: Callable[[], Awaitable[str]]) -> Callable[[Request], Awaitable[JSONResponse]]:
        async def handle(request: Request) -> JSONResponse:
            refusal = _refusal(request, token)
            if refusal is not None:
                return refusal
            return JSONResponse({"status": await verb(), "worker_id": agent.status()["worker_id"]})

        return handle

    keeper = agent.keeper
    for path, verb in (
        ("start", keeper.start_worker),
        ("stop", keeper.stop_worker),
        ("restart", keeper.restart_worker),
    ):
        app.add_api_route(f"/{path}", control(verb), methods=["POST"])
    return app


def _refusal(request: Request, token: str | None) -> JSONResponse | None:
    """Return why a caller may not change anything, None when it may."""
    peer = request.client.host if request.client else None
    caller = Caller(request.method, request.url.path, list(request.scope["headers"]), peer)
    if token is not None and not holds_key(caller, [token]):
        return JSONResponse({"error": "this needs the agent's token: send it as Authorization: Bearer"}, 401)
    if token is None and not is_from_this_machine(caller):
        return JSONResponse({"error": "without APP_AGENT_TOKEN this works from the agent's own machine only"}, 403)
    return None

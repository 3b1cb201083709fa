"""The agent's HTTP face: how the backend is, and whether its worker does its job."""

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psutil
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from rpc_wrapper.agent.worker import Worker
from rpc_wrapper.link.gate import Gate
from rpc_wrapper.supervisor import Runner, State


class Agent:
    """What the agent tells of one worker."""

    def __init__(self, runner: Runner, worker: Worker, gate: Gate, *, worker_id: str, budget_bytes: int) -> None:
        self._runner = runner
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


def create_app(agent: Agent) -> FastAPI:
    """Return the agent's app over a worker that somebody else runs."""

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

    return app

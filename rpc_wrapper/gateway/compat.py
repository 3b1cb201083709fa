"""docker-distributed-llm's endpoints under their own names, over this cluster: its pages and scripts go on working.

``GET /stream``, ``/workers/status``, ``/system/status``, ``/performance/metrics`` and ``POST /workers/restart``. Units
are its own: seconds, MiB called MB, per cent of one core.
"""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.routing import Route

from rpc_wrapper.devices import MIB
from rpc_wrapper.gateway.metrics import RequestMetrics
from rpc_wrapper.gateway.nodes import FRESH_S
from rpc_wrapper.gateway.text_stream import ROOT, TextStream, observed
from rpc_wrapper.gateway.upstream import Upstream
from rpc_wrapper.gateway.workers import Workers


class Compat:
    """The handlers; ``model`` is the file's name."""

    def __init__(self, upstream: Upstream, workers: Workers, metrics: RequestMetrics, model: str) -> None:
        self._upstream = upstream
        self._workers = workers
        self._metrics = metrics
        self._model = model

    def create_router(self, stream: TextStream) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.routes.append(Route("/stream", stream, methods=["GET"]))
        for path, handler in (
            ("/workers/status", self.workers_status),
            ("/system/status", self.system_status),
            ("/performance/metrics", self.performance_metrics),
        ):
            router.add_api_route(path, handler, methods=["GET"], response_model=None)
        router.add_api_route("/workers/restart", self.restart_workers, methods=["POST"], response_model=None)
        return router

    async def workers_status(self) -> list[dict[str, Any]]:
        """Show how every node does, the serving one last."""
        nodes = await self._nodes()
        workers = [_status(node, number) for number, node in enumerate(nodes[1:], start=1)]
        return workers + [_status(node, ROOT) for node in nodes[:1]]

    async def system_status(self) -> dict[str, Any]:
        """Show the whole in five words; the tokenizer is part of the model's file."""
        nodes, snapshot = await self._nodes(), self._upstream.snapshot()
        holding = {part["endpoint"] for part in (snapshot.get("plan") or {}).get("assignments", ())} - {None}
        held = [node for node in nodes[1:] if node["name"] in holding or not holding]
        return {
            "server_status": "running" if snapshot["state"] == "ready" else snapshot["state"],
            "total_workers": len(held),
            "available_workers": sum(_is_available(node) for node in held),
            "model_path": self._model,
            "tokenizer_path": self._model,
        }

    async def performance_metrics(self) -> dict[str, Any]:
        """Show what every worker's agent tells of it, and what streams took on average."""
        figures = await self._workers.figures()
        active = sum(each.get("status") == "online" for each in figures)
        return {
            "system": {"total_workers": len(figures), "active_workers": active, "timestamp": time.time()},
            "worker_metrics": figures,
            "streams": self._metrics.streams(),
        }

    async def restart_workers(self, request: Request) -> JSONResponse:
        """Start every worker again; requests that run meanwhile go on when the cluster is back."""
        done = await self._workers.restart(request.state.request_id)
        failed = [each for each in done if each.get("status") != "restarted"]
        return JSONResponse({"status": "error" if failed else "restarted", "workers": done}, 502 if failed else 200)

    async def _nodes(self) -> list[dict[str, Any]]:
        """Return the serving node, then the workers in order; looked at twice when nobody had looked before."""
        nodes = await observed(self._upstream)
        if any(node["cpu_percent"] is None for node in nodes if _is_available(node)):
            await asyncio.sleep(FRESH_S)  # a load is the difference between two looks
            nodes = await observed(self._upstream)
        return nodes


def _is_available(node: dict[str, Any]) -> bool:
    return node["state"] in ("up", "silent")


def _status(node: dict[str, Any], worker_id: int | str) -> dict[str, Any]:
    return {
        "worker_id": worker_id,
        "status": "online" if _is_available(node) else "offline",
        "is_available": _is_available(node),
        "cpu_usage_percent": node["cpu_percent"] or 0.0,
        "memory_usage_mb": round((node["rss_bytes"] or 0) / MIB, 1),
    }

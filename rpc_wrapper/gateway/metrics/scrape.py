"""``GET /metrics``: everything that is known at this moment, in one answer."""

import asyncio
import contextlib
import os
from collections.abc import Iterable, Mapping

import httpx
from fastapi import APIRouter, Response
from prometheus_client import Metric

from rpc_wrapper.errors import NotReady
from rpc_wrapper.gateway.admission import Gate
from rpc_wrapper.gateway.endpoints import Kind
from rpc_wrapper.gateway.metrics.engine import engine_families
from rpc_wrapper.gateway.metrics.recovery import Recoveries
from rpc_wrapper.gateway.metrics.requests import RequestMetrics
from rpc_wrapper.gateway.metrics.state import cluster_families
from rpc_wrapper.gateway.upstream import Upstream
from rpc_wrapper.metrics.exposition import CONTENT_TYPE, gauge, render
from rpc_wrapper.metrics.gpu import gpu_families, read_gpus
from rpc_wrapper.metrics.process import process_families
from rpc_wrapper.usage import usage

ENGINE_TIMEOUT_S = 1.0  # an engine that waits for a frozen backend does not answer at all


class Scrape:
    """Answer Prometheus; the engine's own figures are asked for, everything else is known."""

    def __init__(
        self, requests: RequestMetrics, upstream: Upstream, gates: Mapping[Kind, Gate], http: httpx.AsyncClient
    ) -> None:
        self._requests = requests
        self._upstream = upstream
        self._gates = gates
        self._http = http
        self._recoveries = Recoveries()

    def create_router(self) -> APIRouter:
        """Return the route."""
        router = APIRouter()
        router.add_api_route("/metrics", self.metrics, methods=["GET"], response_model=None)
        router.add_api_route("/metrics", self.metrics, methods=["HEAD"], response_model=None, include_in_schema=False)
        return router

    async def metrics(self) -> Response:
        """Show all metrics."""
        text, _ = await asyncio.gather(self._engine_text(), self._upstream.observe())
        snapshot = self._upstream.snapshot()
        self._recoveries.read(snapshot.get("history", ()))
        families = [
            *self._requests.families(),
            *self._queues(),
            *self._recoveries.families(),
            *cluster_families(snapshot),
            *process_families({"gateway": usage(os.getpid()), "llama-server": usage(snapshot.get("pid"))}),
            *gpu_families(await asyncio.to_thread(read_gpus)),
            *engine_families(text, str(snapshot.get("name", ""))),
        ]
        return Response(render(families), media_type=CONTENT_TYPE)

    def _queues(self) -> Iterable[Metric]:
        lines = {kind.value: gate.line for kind, gate in self._gates.items()}
        waiting = [({"kind": kind}, line.waiting) for kind, line in lines.items()]
        yield gauge("rpcw_queue_length", "Requests that wait for their turn.", waiting)
        bounds = [({"kind": kind}, line.max_queue) for kind, line in lines.items()]
        yield gauge("rpcw_queue_limit", "Requests that may wait (APP_MAX_QUEUE).", bounds)
        running = [({"kind": kind}, line.running) for kind, line in lines.items()]
        yield gauge("rpcw_requests_running", "Requests that the engine works on.", running)

    async def _engine_text(self) -> str:
        """Return what llama-server says of itself, nothing when it is not there to ask."""
        with contextlib.suppress(NotReady, httpx.HTTPError, TimeoutError):
            target = await self._upstream.ensure_ready(0.0)
            headers = {"authorization": f"Bearer {target.api_key}"}
            async with asyncio.timeout(ENGINE_TIMEOUT_S):
                answer = await self._http.get(f"{target.base_url}/metrics", headers=headers)
            return answer.text if answer.is_success else ""
        return ""

"""The gateway's own endpoints: alive, ready, healthy, and what the cluster is doing."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from rpc_wrapper.errors import NotReady
from rpc_wrapper.gateway.admission import Doors
from rpc_wrapper.gateway.errors import STARTING_RETRY_S
from rpc_wrapper.gateway.upstream import Readiness, Upstream
from rpc_wrapper.supervisor.loop_watch import LoopWatch

# llama-server's own words (tools/server/server-http.cpp), so that what waits for it can wait for us.
_LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}


class Api:
    """The handlers over one upstream."""

    def __init__(self, upstream: Upstream, doors: Doors, loop_watch: LoopWatch) -> None:
        self._upstream = upstream
        self._doors = doors
        self._loop_watch = loop_watch

    async def livez(self) -> dict[str, Any]:
        """Tell that the event loop turns, and how long it stood still lately; nothing about the engine.

        While it stands still nobody answers here: whoever asks with a deadline sees that for himself.
        """
        return {"status": "alive", "stalls": self._loop_watch.stalls.to_json()}

    async def readyz(self) -> JSONResponse:
        """Tell whether tokens come out, else who or what is missing."""
        readiness = await self._upstream.check_ready()
        if self._doors.are_closed:
            readiness = Readiness(False, "it is being drained: it finishes what it has and takes nothing new")
        if readiness.ok:
            return JSONResponse({"status": "ready"})
        body = {**self._upstream.progress(), "status": "not ready", "reason": readiness.reason}
        return JSONResponse(body, 503, {"retry-after": f"{STARTING_RETRY_S:.0f}"})

    async def health(self) -> JSONResponse:
        """Answer with llama-server's own contract."""
        try:
            await self._upstream.ensure_ready(0.0)
        except NotReady as error:
            return JSONResponse(_LOADING, 503, {"retry-after": f"{max(1.0, error.retry_after_s):.0f}"})
        return JSONResponse({"status": "ok"})

    async def cluster(self) -> dict[str, Any]:
        """Show the whole cluster."""
        return self._upstream.snapshot()

    async def strategies(self) -> dict[str, Any]:
        """Show what every strategy would make of the loaded model."""
        return await self._upstream.strategies()


def create_router(upstream: Upstream, doors: Doors, loop_watch: LoopWatch) -> APIRouter:
    """Return the routes of what can be read; each answers HEAD too."""
    api = Api(upstream, doors, loop_watch)
    router = APIRouter()
    for path, handler in (
        ("/livez", api.livez),
        ("/readyz", api.readyz),
        ("/health", api.health),
        ("/v1/health", api.health),
        ("/cluster", api.cluster),
        ("/cluster/strategies", api.strategies),
    ):
        router.add_api_route(path, handler, methods=["GET"])
        router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
    return router

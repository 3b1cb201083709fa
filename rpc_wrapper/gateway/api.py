"""The gateway's own endpoints: alive, ready, healthy, and what the cluster is doing."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from rpc_wrapper.errors import NotReady
from rpc_wrapper.gateway.errors import STARTING_RETRY_S
from rpc_wrapper.gateway.upstream import Upstream

# llama-server's own words (tools/server/server-http.cpp), so that what waits for it can wait for us.
_LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}


class Api:
    """The handlers over one upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def livez(self) -> dict[str, str]:
        """Tell that the event loop turns; nothing about the engine."""
        return {"status": "alive"}

    async def readyz(self) -> JSONResponse:
        """Tell whether tokens come out, else who or what is missing."""
        readiness = await self._upstream.check_ready()
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

    async def restart(self) -> dict[str, str]:
        """Restart the engine; requests that arrive meanwhile wait for it."""
        await self._upstream.restart("asked for by POST /cluster/restart")
        return {"status": "restarting"}


def create_router(upstream: Upstream) -> APIRouter:
    """Return the routes; whatever can be read answers HEAD too."""
    api = Api(upstream)
    router = APIRouter()
    for path, handler in (
        ("/livez", api.livez),
        ("/readyz", api.readyz),
        ("/health", api.health),
        ("/v1/health", api.health),
        ("/cluster", api.cluster),
    ):
        router.add_api_route(path, handler, methods=["GET"])
        router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
    router.add_api_route("/cluster/restart", api.restart, methods=["POST"], status_code=202)
    return router

"""What an admin may do to a running cluster: restart, plan anew, add and remove backends, drain.

None of it costs a client its request: the engine is fenced as after a failure, and the journal goes on with what ran.
Nothing of it outlives this process; answers to changes say so.
"""

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from rpc_wrapper.devices import Endpoint, parse_endpoint
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.gateway.admission import Doors
from rpc_wrapper.gateway.errors import Problem, Refusal
from rpc_wrapper.gateway.upstream import Change, Upstream

NOT_KEPT = "This lasts until this process ends: change APP_RPC_BACKENDS to keep it."
_HOW = 'send {"add": "host:port"} or {"remove": "host:port"}'


class Control:
    """The handlers over one upstream and the doors of its gateway; each may be called again without harm."""

    def __init__(self, upstream: Upstream, doors: Doors) -> None:
        self._upstream = upstream
        self._doors = doors

    async def restart(self) -> dict[str, str]:
        """Restart the engine; requests that arrive meanwhile wait for it."""
        await self._upstream.restart("asked for by POST /cluster/restart")
        return {"status": "restarting"}

    async def replan(self) -> dict[str, str]:
        """Survey the backends, plan anew and start the engine over that."""
        await self._upstream.restart("a new plan was asked for by POST /cluster/replan")
        return {"status": "replanning"}

    async def backends(self, request: Request) -> JSONResponse:
        """Add or remove one backend; 409 with a sentence when that cannot be."""
        verb, backend = _wish(await request.body())
        change = self._upstream.add_backend if verb == "add" else self._upstream.remove_backend
        try:
            done = await change(backend)
        except ConfigError as error:
            raise Refusal(Problem(409, "backend_refused", f"{error}.")) from error
        return JSONResponse(_told(done, backend), 202 if done.restarts else 200)

    async def drain(self) -> dict[str, Any]:
        """Take no new requests, let those inside finish; `DELETE` takes requests again."""
        self._doors.close()
        return self._doors.to_json()

    async def undrain(self) -> dict[str, Any]:
        """Take requests again."""
        self._doors.open()
        return self._doors.to_json()


def create_control_router(upstream: Upstream, doors: Doors) -> APIRouter:
    """Return the routes."""
    control = Control(upstream, doors)
    router = APIRouter()
    for method, path, handler, status in (
        ("POST", "/cluster/restart", control.restart, 202),
        ("POST", "/cluster/replan", control.replan, 202),
        ("POST", "/cluster/backends", control.backends, 202),
        ("POST", "/cluster/drain", control.drain, 202),
        ("DELETE", "/cluster/drain", control.undrain, 200),
    ):
        router.add_api_route(path, handler, methods=[method], status_code=status, response_model=None)
    return router


def _wish(body: bytes) -> tuple[str, Endpoint]:
    """Read what to do with which backend; raise Refusal (400)."""
    try:
        wish = json.loads(body)
    except ValueError:
        raise _malformed(f"The body is not JSON: {_HOW}.") from None
    if not isinstance(wish, dict) or len(wish) != 1 or not wish.keys() <= {"add", "remove"}:
        raise _malformed(f"The body must name one thing to do: {_HOW}.")
    ((verb, text),) = wish.items()
    if not isinstance(text, str):
        raise _malformed(f"{verb!r} takes an endpoint as text: {_HOW}.")
    try:
        return verb, parse_endpoint(text)
    except ConfigError as error:
        raise _malformed(f"{error}.") from error


def _malformed(message: str) -> Refusal:
    return Refusal(Problem(400, "invalid_change", message))


def _told(change: Change, backend: Endpoint) -> dict[str, Any]:
    told = {"status": change.status, "backend": str(backend), "listed": list(change.listed)}
    return {**told, "restarts_engine": change.restarts, "persisted": False, "note": NOT_KEPT}

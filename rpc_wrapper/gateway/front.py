"""The outermost layer of the gateway: every request gets an id and a check of its keys, every error an envelope."""

import logging
from collections.abc import MutableMapping
from typing import Any
from uuid import uuid4

from starlette.types import ASGIApp, Receive, Scope, Send

from rpc_wrapper.access import Caller
from rpc_wrapper.errors import RPCWrapperError
from rpc_wrapper.gateway import auth
from rpc_wrapper.gateway.endpoints import ENDPOINTS
from rpc_wrapper.gateway.errors import Problem, body_of, headers_of, problem_of
from rpc_wrapper.gateway.headers import accepted_request_id

logger = logging.getLogger(__name__)


class Front:
    """Wrap an ASGI application; WebSockets and the lifespan pass through."""

    def __init__(self, app: ASGIApp, keys: auth.Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's event stream."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = accepted_request_id(scope["headers"]) or uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        response = _Response(send, request_id)
        try:
            auth.check(_caller(scope), self._keys)
            await self._app(scope, receive, response.send)
        except RPCWrapperError as error:
            await response.fail(problem_of(error), scope["path"])
        except Exception:
            logger.exception("request %s: %s %s failed by a bug", request_id, scope["method"], scope["path"])
            message = f"The gateway failed on this request, which is a bug: report it with request id {request_id}."
            await response.fail(Problem(500, "internal", message, "server_error"), scope["path"])


class _Response:
    """A ``send`` that stamps the request id on the response and knows whether one has begun."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id.encode()
        self._started = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self._request_id)]
        await self._send(message)

    async def fail(self, problem: Problem, path: str) -> None:
        if self._started:  # too late to say it: an unfinished answer makes the server cut the connection
            return
        endpoint = ENDPOINTS.get(path)
        body = body_of(problem, anthropic=endpoint is not None and endpoint.is_anthropic)
        headers = [(key.encode(), value.encode()) for key, value in headers_of(problem)]
        headers.append((b"content-length", b"%d" % len(body)))
        await self.send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _caller(scope: Scope) -> Caller:
    client = scope.get("client")
    return Caller(scope["method"], scope["path"], list(scope["headers"]), client[0] if client else None)

"""The outermost layer of the gateway: a request gets an id, a check of its keys and a place in the books, an error its
envelope."""

import logging
import time
from collections.abc import MutableMapping, Set
from typing import Any
from uuid import uuid4

from starlette.types import ASGIApp, Receive, Scope, Send

from rpc_wrapper.access import Caller, accepted_request_id
from rpc_wrapper.errors import RPCWrapperError
from rpc_wrapper.gateway import auth
from rpc_wrapper.gateway.endpoints import ENDPOINTS, Kind
from rpc_wrapper.gateway.errors import Problem, body_of, headers_of, problem_of
from rpc_wrapper.gateway.metrics.requests import RequestMetrics
from rpc_wrapper.gateway.visit import Visit

logger = logging.getLogger(__name__)


class Front:
    """Wrap an ASGI application; WebSockets and the lifespan pass through."""

    def __init__(self, app: ASGIApp, keys: auth.Keys, metrics: RequestMetrics, own_paths: Set[str]) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._own_paths = own_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's event stream."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = self._visit(scope)
        scope.setdefault("state", {}).update(request_id=visit.request_id, visit=visit)
        self._metrics.begin(visit)
        response = _Response(send, visit, self._metrics)
        try:
            auth.check(_caller(scope), self._keys)
            await self._app(scope, _Listener(receive, visit), response.send)
        except RPCWrapperError as error:
            await response.fail(problem_of(error), scope["path"])
        except Exception:
            logger.exception("request %s: %s %s failed by a bug", visit.request_id, visit.method, visit.path)
            message = (
                f"The gateway failed on this request, which is a bug: report it with request id {visit.request_id}."
            )
            await response.fail(Problem(500, "internal", message, "server_error"), scope["path"])
        finally:
            if not visit.is_finished:
                visit.ended_at = time.monotonic()
                self._metrics.end(visit)

    def _visit(self, scope: Scope) -> Visit:
        path, endpoint = scope["path"], ENDPOINTS.get(scope["path"])
        is_work = endpoint is not None and endpoint.kind is Kind.INFERENCE
        return Visit(
            request_id=accepted_request_id(scope["headers"]) or uuid4().hex,
            method=scope["method"],
            path=path,
            endpoint=path if endpoint is not None or path in self._own_paths else "other",
            began_at=time.monotonic(),
            is_work=is_work,
            is_passed_on=is_work,
        )


class _Listener:
    """A ``receive`` that notices when the client leaves before it was answered."""

    def __init__(self, receive: Receive, visit: Visit) -> None:
        self._receive = receive
        self._visit = visit

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._visit.client_left = not self._visit.is_finished
        return message


class _Response:
    """A ``send`` that stamps the request id on the response, knows whether one has begun, and counts it at its end.

    It is counted before its last byte goes out, so that who has read it finds it in the metrics.
    """

    def __init__(self, send: Send, visit: Visit, metrics: RequestMetrics) -> None:
        self._send = send
        self._visit = visit
        self._metrics = metrics
        self._started = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self._visit.request_id.encode())]
        self._visit.sent(message, time.monotonic())
        if self._visit.is_finished:
            self._metrics.end(self._visit)
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

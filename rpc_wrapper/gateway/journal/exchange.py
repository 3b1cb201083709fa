"""An exchange that outlives engines."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rpc_wrapper.access import find
from rpc_wrapper.gateway.endpoints import Kind, Shape
from rpc_wrapper.gateway.exchange import EngineAnswer, EngineRequest, Exchange
from rpc_wrapper.gateway.fields import parse_object
from rpc_wrapper.gateway.journal.config import ResumeConfig
from rpc_wrapper.gateway.journal.entry import Asked, Journal
from rpc_wrapper.gateway.journal.method import ask
from rpc_wrapper.gateway.journal.reading import dialect_of
from rpc_wrapper.gateway.journal.run import Means, Run
from rpc_wrapper.gateway.journal.vigil import Vigil
from rpc_wrapper.gateway.upstream import Upstream

OPT_OUT = b"x-resume"


class ResumingExchange:
    """Ask the engine through ``direct``; when it is lost, wait for the next one and go on where the client is.

    Use it as ``create_app(..., wrap=lambda direct: ResumingExchange(direct, upstream, config, vigil))``.
    """

    def __init__(self, direct: Exchange, upstream: Upstream, config: ResumeConfig, vigil: Vigil) -> None:
        self._direct = direct
        self._config = config
        self.journal = Journal(config)
        self._means = Means(direct, upstream, config, self.journal, vigil)

    @asynccontextmanager
    async def __call__(self, request: EngineRequest) -> AsyncIterator[EngineAnswer]:
        """Yield the answer; raise Refusal, NotReady or, when it cannot go on, Ended."""
        if not (self._config.enabled and is_covered(request)):
            async with self._direct(request) as answer:
                yield answer
            return
        with self.journal.open(request.request_id, _asked(request)) as entry:
            async with Run(self._means, entry, request) as run:
                yield await run.answer()


def is_covered(request: EngineRequest) -> bool:
    """Tell whether a request may be asked again: it changes nothing, and its client has not refused (X-Resume: off)."""
    endpoint = request.endpoint
    repeatable = request.method == "POST" and endpoint.kind is not Kind.STATUS
    refused = (find(request.headers, OPT_OUT) or b"").strip().lower() in (b"off", b"0", b"false", b"no")
    return repeatable and endpoint.shape not in (Shape.NONE, Shape.CONTROL) and not refused


def _asked(request: EngineRequest) -> Asked:
    dialect = dialect_of(request.endpoint.shape, request.endpoint.path)
    content_type = find(request.headers, b"content-type") or b""
    is_json = not content_type.lower().startswith(b"multipart/")
    value = parse_object(request.body) if is_json else None
    return ask(dialect, request.body, value, secrets.randbelow(1 << 31))

"""One request to the engine and its answer, over the one shared HTTP client.

:data:`Exchange` is the seam: :class:`DirectExchange` asks once and reports a loss as EngineLost; whoever wants to
survive losses wraps it in another Exchange of the same type.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx

from rpc_wrapper.access import Headers
from rpc_wrapper.gateway import headers
from rpc_wrapper.gateway.endpoints import EngineEndpoint
from rpc_wrapper.gateway.errors import EngineLost, Refusal, cannot_be_sent
from rpc_wrapper.gateway.upstream import Target, Upstream
from rpc_wrapper.gateway.visit import Visit

_QUERY_ASCII = "".join(map(chr, range(0x21, 0x7F)))  # everything else is percent-encoded (RFC 3986, 2.1)
CONNECT_TIMEOUT_S = 5.0  # over loopback: more than this means that nobody accepts


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What a client asked; ``headers`` are still its own, ``ready_wait_s`` is how long the engine may take to come."""

    endpoint: EngineEndpoint
    method: str
    query: bytes
    headers: Headers = field(repr=False)  # the client's key is among them
    body: bytes = field(repr=False)
    request_id: str
    ready_wait_s: float
    visit: Visit = field(default_factory=Visit, repr=False, compare=False)

    @property
    def raw_path(self) -> bytes:
        """Return path and query as they go over the wire; the path is the table's, never the client's spelling."""
        path = quote(self.endpoint.path, safe="/:@!$&'()*+,;=~")
        query = quote(self.query, safe=_QUERY_ASCII)
        return f"{path}?{query}".encode() if query else path.encode()


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """What the engine answers; ``chunks`` are its bytes as they arrive, and may end in EngineLost."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]


Exchange = Callable[[EngineRequest], AbstractAsyncContextManager[EngineAnswer]]


def new_client() -> httpx.AsyncClient:
    """Return the shared client: as many connections as there are requests, and no limit on how long one lasts."""
    return httpx.AsyncClient(
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        trust_env=False,
        follow_redirects=False,
    )


class DirectExchange:
    """Ask the engine once, as soon as it is ready."""

    def __init__(self, client: httpx.AsyncClient, upstream: Upstream) -> None:
        self._client = client
        self._upstream = upstream

    @asynccontextmanager
    async def __call__(self, request: EngineRequest) -> AsyncIterator[EngineAnswer]:
        """Yield the answer once its headers are here; raise NotReady or EngineLost. Leaving cancels it upstream."""
        target = await self._upstream.ensure_ready(request.ready_wait_s)
        response = await self._send(target, request)
        try:
            yield EngineAnswer(response.status_code, response.headers.raw, _chunks(response))
        finally:
            await response.aclose()

    async def _send(self, target: Target, request: EngineRequest) -> httpx.Response:
        sent = headers.for_engine(request.headers, api_key=target.api_key, request_id=request.request_id)
        try:
            url = httpx.URL(target.base_url).copy_with(raw_path=request.raw_path)
            # built by hand: AsyncClient.build_request would add headers of its own
            built = httpx.Request(request.method, url, headers=sent, content=request.body)
            return await self._client.send(built, stream=True)
        except (httpx.InvalidURL, httpx.LocalProtocolError) as error:
            raise Refusal(cannot_be_sent(str(error))) from error
        except httpx.TransportError as error:
            message = f"The engine went away before it answered ({type(error).__name__}): send the request again."
            raise EngineLost(message, answered=False) from error


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_raw():
            yield chunk
    except httpx.TransportError as error:
        message = f"The engine went away in the middle of its answer ({type(error).__name__}): send the request again."
        raise EngineLost(message, answered=True) from error

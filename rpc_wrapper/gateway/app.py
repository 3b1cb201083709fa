"""Put the gateway together: :func:`create_app`, with everything it needs handed in."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from fastapi import FastAPI

from rpc_wrapper.gateway.admission import Gate, Line
from rpc_wrapper.gateway.api import create_router
from rpc_wrapper.gateway.auth import Keys
from rpc_wrapper.gateway.endpoints import Kind
from rpc_wrapper.gateway.exchange import DirectExchange, Exchange, new_client
from rpc_wrapper.gateway.front import Front
from rpc_wrapper.gateway.proxy import Limits, Proxy
from rpc_wrapper.gateway.upstream import Upstream

MIB = 1024 * 1024
# llama-server has n_parallel + 4 HTTP threads (tools/server/server-http.cpp): two for these, two for our own questions.
LIGHT_SLOTS = 2

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """What the gateway is told at its start; no API keys means that everybody may ask."""

    slots: int = 4
    max_queue: int = 64
    queue_wait_s: float = 300.0
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    admin_keys: tuple[str, ...] = field(default=(), repr=False)
    passthrough_all: bool = False
    max_body_bytes: int = 64 * MIB
    docs: bool = False


class Gateway:
    """A running gateway, for the owner of the process: ``app.state.gateway``."""

    def __init__(self, config: GatewayConfig) -> None:
        self.gates = {
            Kind.INFERENCE: Gate(Line(config.slots, config.max_queue)),
            Kind.LIGHT: Gate(Line(LIGHT_SLOTS, config.max_queue)),
        }

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests and wait for those inside; tell whether all of them finished in ``timeout_s``."""
        for gate in self.gates.values():
            gate.drain()
        try:
            async with asyncio.timeout(timeout_s):
                for gate in self.gates.values():
                    await gate.wait_empty()
        except TimeoutError:
            return False
        return True


def create_app(
    config: GatewayConfig,
    upstream: Upstream,
    lifespan: Lifespan | None = None,
    wrap: Callable[[Exchange], Exchange] | None = None,
) -> FastAPI:
    """Return the gateway over one upstream.

    ``lifespan`` runs inside the life of the shared HTTP client; ``wrap`` may put another exchange around the direct
    one.
    """
    client = new_client()
    gateway = Gateway(config)
    exchange: Exchange = DirectExchange(client, upstream)
    limits = Limits(config.max_body_bytes, config.queue_wait_s, config.passthrough_all)

    @asynccontextmanager
    async def whole_lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with client, lifespan(app) if lifespan else nullcontext():
            yield

    app = FastAPI(
        title="rpc-wrapper",
        lifespan=whole_lifespan,
        docs_url="/docs" if config.docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if config.docs else None,
    )
    app.state.gateway = gateway
    app.include_router(create_router(upstream))
    app.mount("/", Proxy(limits, upstream, gateway.gates, wrap(exchange) if wrap else exchange))
    app.add_middleware(Front, keys=Keys(config.api_keys, config.admin_keys))
    return app

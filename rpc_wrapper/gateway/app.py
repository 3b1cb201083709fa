"""Put the gateway together: :func:`create_app`, with everything it needs handed in."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from fastapi import APIRouter, FastAPI
from starlette.routing import Route

from rpc_wrapper.gateway import dashboard
from rpc_wrapper.gateway.admission import Doors, Gate, Line
from rpc_wrapper.gateway.api import create_router
from rpc_wrapper.gateway.auth import Keys
from rpc_wrapper.gateway.compat import Compat
from rpc_wrapper.gateway.control import create_control_router
from rpc_wrapper.gateway.endpoints import Kind
from rpc_wrapper.gateway.exchange import DirectExchange, Exchange, new_client
from rpc_wrapper.gateway.front import Front
from rpc_wrapper.gateway.live import Live
from rpc_wrapper.gateway.metrics import RequestMetrics, Scrape
from rpc_wrapper.gateway.proxy import Limits, Proxy
from rpc_wrapper.gateway.text_stream import TextStream
from rpc_wrapper.gateway.token_delay import DelayedExchange, TokenDelay
from rpc_wrapper.gateway.upstream import Upstream
from rpc_wrapper.gateway.workers import AgentAccess, Workers
from rpc_wrapper.supervisor.loop_watch import LoopWatch

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
    model: str = ""  # the file's name
    token_delay: TokenDelay = field(default_factory=TokenDelay)


class Gateway:
    """A running gateway, for the owner of the process: ``app.state.gateway``."""

    def __init__(self, config: GatewayConfig, live: Live) -> None:
        self._live = live
        self.metrics = RequestMetrics()
        self.gates = {
            Kind.INFERENCE: Gate(Line(config.slots, config.max_queue)),
            Kind.LIGHT: Gate(Line(LIGHT_SLOTS, config.max_queue)),
        }
        self.doors = Doors(self.gates.values())

    def traffic(self) -> dict[str, int]:
        """Return what `/cluster` shows of the requests: how many run, how many wait, the tokens they brought so far."""
        line = self.gates[Kind.INFERENCE].line
        return {"running": line.running, "queued": line.waiting, "tokens_total": self.metrics.tokens_total}

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests and wait for those inside; tell whether all of them finished in ``timeout_s``."""
        is_empty = await self.doors.drain(timeout_s)
        self._live.close()  # watchers see the drain, and would hold the server open after it
        return is_empty


def create_app(
    config: GatewayConfig,
    upstream: Upstream,
    lifespan: Lifespan | None = None,
    wrap: Callable[[Exchange], Exchange] | None = None,
    workers: Workers | None = None,
) -> FastAPI:
    """Return the gateway over one upstream.

    ``lifespan`` runs inside the life of the shared HTTP client; ``wrap`` may put another exchange around the direct
    one; without ``workers`` there are none to ask or restart.
    """
    client = new_client()
    live = Live(upstream)
    gateway = Gateway(config, live)
    loop_watch = LoopWatch()
    direct = DirectExchange(client, upstream)
    exchange = _delayed(wrap(direct) if wrap else direct, config)
    limits = Limits(config.max_body_bytes, config.queue_wait_s, config.passthrough_all)

    @asynccontextmanager
    async def whole_lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with client, lifespan(app) if lifespan else nullcontext(), live.running(), loop_watch:
            yield

    app = FastAPI(
        title="rpc-wrapper",
        lifespan=whole_lifespan,
        docs_url="/docs" if config.docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if config.docs else None,
    )
    app.state.gateway = gateway
    proxy = Proxy(limits, upstream, gateway.gates, exchange)
    compat = Compat(upstream, workers or Workers(AgentAccess(client), lambda: ()), gateway.metrics, config.model)
    routers = (
        create_router(upstream, gateway.doors, loop_watch),
        create_control_router(upstream, gateway.doors),
        live.create_router(),
        Scrape(gateway.metrics, upstream, gateway.gates, client).create_router(),
        compat.create_router(TextStream(proxy, upstream, config.queue_wait_s)),
    )
    for router in routers:
        app.include_router(router)
    pages = dashboard.add_routes(app, dashboard.read_files())
    app.mount("/", proxy)
    keys = Keys(config.api_keys, config.admin_keys, pages)
    app.add_middleware(Front, keys=keys, metrics=gateway.metrics, own_paths=pages.union(*map(_paths, routers)))
    return app


def _delayed(exchange: Exchange, config: GatewayConfig) -> Exchange:
    return DelayedExchange(exchange, config.token_delay) if config.token_delay.is_on else exchange


def _paths(router: APIRouter) -> frozenset[str]:
    return frozenset(route.path for route in router.routes if isinstance(route, Route))

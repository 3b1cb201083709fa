"""The link: a stable address on loopback for llama-server, and behind it one backend, wherever that is.

The engine resolves only IPv4 names, waits for ever and encrypts nothing; the link speaks to it on loopback and does
better on the network side. It starts and heals nothing: what happens is told to its owner as an event.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import RPCWrapperError
from rpc_wrapper.link import sockets
from rpc_wrapper.link.budget import Budget
from rpc_wrapper.link.conversation import Conversation
from rpc_wrapper.link.deadline import Deadlines
from rpc_wrapper.link.delay import Network
from rpc_wrapper.link.events import LinkEvent, Lost
from rpc_wrapper.link.meter import Meter, MeterSnapshot
from rpc_wrapper.link.session import Security, Session, SessionOptions
from rpc_wrapper.link.tls import explain

LOOPBACK = "127.0.0.1"  # the engine parses no other kind


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How a link behaves; ``local_port`` 0 takes a free one at the first start and keeps it."""

    deadlines: Deadlines = field(default_factory=Deadlines)
    network: Network = field(default_factory=Network)
    security: Security | None = None
    connect_timeout_s: float = 5.0
    local_port: int = 0


class Link:
    """Relay between the engine and one backend; ``endpoint.budget_bytes`` caps what it may be asked for."""

    def __init__(
        self,
        endpoint: Endpoint,
        options: LinkOptions | None = None,
        on_event: Callable[[LinkEvent], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._options = options or LinkOptions()
        self._on_event = on_event or (lambda event: None)
        self._port = self._options.local_port
        self._budget = Budget(endpoint.budget_bytes)
        self._meter = Meter()
        self._numbers = itertools.count()
        self._listener: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Link":
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    @property
    def address(self) -> Endpoint:
        """Return where llama-server finds this backend: ``127.0.0.1:port``, the same after every start."""
        return Endpoint(LOOPBACK, self._port)

    async def start(self) -> Endpoint:
        """Listen and return :attr:`address`; raise ConnectError when the port is taken. Started already: no effect."""
        if self._serving is None:
            self._listener = sockets.listen(LOOPBACK, self._port)
            self._port = self._listener.getsockname()[1]
            self._serving = asyncio.get_running_loop().create_task(
                sockets.accept(self._listener, self._carry), name=f"link {self}"
            )
        return self.address

    async def aclose(self) -> None:
        """Close the port and cut every connection; :meth:`start` may follow."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
        if self._listener is not None:
            self._listener.close()

    def snapshot(self) -> MeterSnapshot:
        """Return the link's figures at this moment."""
        return self._meter.snapshot(monotonic(), self._budget.allocated_bytes)

    def __str__(self) -> str:
        return f"{self.address} → {self.endpoint}"

    async def _carry(self, engine: socket.socket) -> None:
        self._meter.connections += 1
        try:
            reason = await self._session(engine)
        except (OSError, RPCWrapperError) as error:
            reason = explain(error)
        finally:
            self._meter.connections -= 1
        if reason is not None:
            self._on_event(Lost(self.endpoint, reason))

    async def _session(self, engine: socket.socket) -> str | None:
        options = self._options
        backend = await sockets.connect(
            self.endpoint, timeout_s=options.connect_timeout_s, user_timeout_s=options.deadlines.longest_s
        )
        sockets.tune(engine, options.deadlines.longest_s)
        conversation = Conversation(
            self.endpoint, next(self._numbers), self._budget, self._meter, options.deadlines, monotonic()
        )
        session = Session(conversation, SessionOptions(self._on_event, options.network, options.security))
        return await session.run(backend, engine)

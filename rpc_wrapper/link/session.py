"""Carry one connection of the engine to one connection of a backend.

Back-pressure: a side that cannot write stops the other from reading. Half-close: the engine's end of stream is passed
on. A backend that leaves first takes the engine's side with it at once, whatever is still buffered.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic  # uvloop rounds its own to milliseconds

from rpc_wrapper.errors import ConnectError
from rpc_wrapper.link.conversation import Conversation, Step
from rpc_wrapper.link.delay import DelayLine, Network
from rpc_wrapper.link.end import Chunk, End
from rpc_wrapper.link.events import LinkEvent
from rpc_wrapper.link.line import Line
from rpc_wrapper.link.tls import explain
from rpc_wrapper.rpc.commands import REPLY_HEADER, REQUEST_HEADER

CHECK_INTERVAL_S = 0.25  # how often silence is looked for
FLUSH_TIMEOUT_S = 5.0  # for the last bytes to an engine that has left already

_LEFT = "the backend closed the connection"
_RESET = "the backend reset the connection"
_TURNED_AWAY = ": it has ended, or it serves another llama-server, and its log says which"
_REFUSED = "the backend left right after the TLS handshake, so it refuses our certificate (its log says why)"
_NO_TLS = "the backend left during the TLS handshake: set APP_TLS=require on both sides"


@dataclass(frozen=True, slots=True)
class Security:
    """A TLS context, and the name or address that the certificate of the peer we connect to must carry."""

    context: ssl.SSLContext
    peer_name: str


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session runs; ``linger_s`` bounds the wait for the backend's goodbye, None waits for ever."""

    on_event: Callable[[LinkEvent], None]
    network: Network = field(default_factory=Network)
    security: Security | None = None
    handshake_timeout_s: float = 5.0
    linger_s: float | None = 10.0


class Session:
    """One connection, from its first byte to its last."""

    def __init__(self, conversation: Conversation, options: SessionOptions, engine: End | None = None) -> None:
        self._conversation = conversation
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[str | None] = self._loop.create_future()
        self._has_engine_left = False
        self._opening = b""
        self.engine = engine or End(self._engine_said, self._engine_left)
        self.engine.on_data, self.engine.on_end = self._engine_said, self._engine_left
        self._backend = End(self._backend_said, self._backend_left)
        self.engine.source, self._backend.source = self._backend, self.engine
        ideal = options.network.is_ideal
        outward = None if ideal else DelayLine(options.network, REQUEST_HEADER.size)
        inward = None if ideal else DelayLine(options.network, REPLY_HEADER.size)
        self._outward = Line(outward, self.engine, self._backend.write, self._backend.finish)
        self._inward = Line(inward, self._backend, self._backend_arrived, self._backend_gone)
        self._loss = _REFUSED if options.security else _LEFT

    @property
    def has_engine_left(self) -> bool:
        """Tell whether the engine's side is gone; the backend's may not have noticed yet."""
        return self._has_engine_left

    async def run(
        self, backend: socket.socket, engine: socket.socket | None = None, opening: bytes = b""
    ) -> str | None:
        """Carry bytes until both sides are done; return None, or why it broke.

        ``engine`` is a socket to take over, unless the session was given an end: that one comes braked, its HELLO was
        answered for the backend, and ``opening`` is what it has said since. All is closed when this returns or raises:
        OSError, ssl.SSLError among them, or ConnectError when TLS cannot be agreed on.
        """
        reason: str | None = "it was closed"
        try:
            await self._open_backend(backend)
            if engine is not None:
                await self._loop.connect_accepted_socket(lambda: self.engine, engine)
            if opening:
                self._opening = opening
                self._backend.write([self._conversation.greet(monotonic())])
            reason = await self._watch()
        finally:
            await self._close(reason)
        return reason

    def _open(self) -> None:
        """Let the engine in: the backend has answered the HELLO that was said for it."""
        opening, self._opening = self._opening, b""
        self._engine_said(opening)
        self.engine.unbrake()
        if self.engine.has_ended:
            self._engine_left(None)

    async def _open_backend(self, backend: socket.socket) -> None:
        security = self._options.security
        try:
            await self._loop.create_connection(
                lambda: self._backend,
                sock=backend,
                ssl=security.context if security else None,
                server_hostname=security.peer_name if security else None,
                ssl_handshake_timeout=self._options.handshake_timeout_s if security else None,
            )
        except ConnectionError:
            backend.close()
            raise ConnectError(_NO_TLS) from None
        except BaseException:
            backend.close()
            raise

    async def _watch(self) -> str | None:
        while not self._outcome.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._outcome), CHECK_INTERVAL_S)
            silence = self._conversation.overdue(self._backend.unsent_bytes, monotonic())
            if silence is not None:
                self._options.on_event(silence)
        return self._outcome.result()

    async def _close(self, reason: str | None) -> None:
        self._outward.close()
        self._inward.close()
        self._conversation.close()
        if reason is None:
            self.engine.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.engine.closed.wait(), FLUSH_TIMEOUT_S)
        for end in (self.engine, self._backend):
            end.abort()
            await end.closed.wait()

    def _engine_said(self, data: bytes) -> None:
        self._take(self._conversation.from_engine(data, monotonic()))

    def _backend_said(self, data: bytes) -> None:
        self._loss = _LEFT
        self._inward.send([data])

    def _backend_arrived(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            self._take(self._conversation.from_backend(chunk, monotonic()))
        if self._opening and self._conversation.is_idle:
            self._open()

    def _take(self, step: Step) -> None:
        if step.to_backend:
            self._outward.send(step.to_backend)
        if step.to_engine:
            self.engine.write(step.to_engine)
        for event in step.events:
            self._options.on_event(event)
        if step.error is not None:
            self._end(step.error)

    def _engine_left(self, error: Exception | None) -> None:
        if self._has_engine_left or self._outcome.done():
            return
        self._has_engine_left = True
        self._outward.end()
        if self._options.linger_s is not None:
            self._loop.call_later(self._options.linger_s, self._end, None)

    def _backend_left(self, error: Exception | None) -> None:
        if isinstance(error, ConnectionResetError):
            self._loss = _RESET if self._loss is _LEFT else self._loss
        elif error is not None:
            self._loss = explain(error)
        self._inward.end()

    def _backend_gone(self) -> None:
        hint = _TURNED_AWAY if self._loss is _RESET else ""
        reason = f"{self._loss} while {self._conversation.awaited} was unanswered{hint}"
        self._end(None if self._has_engine_left else reason)

    def _end(self, reason: str | None) -> None:
        if not self._outcome.done():
            self._outcome.set_result(reason)

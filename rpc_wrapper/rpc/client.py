"""Ask a worker who it is, over a real socket, with a deadline on every step.

Two habits of the real worker shape this module (rpc_serve_client and transport.cpp). It serves one client at a time,
so a second one connects and then hears nothing: *busy* is an answer of its own. And it writes without MSG_NOSIGNAL,
so a client that sent HELLO, lost patience and closed in the orderly way kills it with SIGPIPE the moment it gets
round to answering. A reset does not: its first write then fails with ECONNRESET, which raises no signal.
Hence :meth:`Client.close` resets the connection unless the worker owes us nothing.
"""

import asyncio
import errno
import math
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConnectError, ProtocolError, ReadTimeout, RemoteProtocolError, TransportError
from rpc_wrapper.rpc.commands import PINNED, ProtocolVersion
from rpc_wrapper.rpc.connection import Connection, ConnectionClosed, NeedData
from rpc_wrapper.rpc.messages import (
    DeviceCountReply,
    DeviceCountRequest,
    DeviceMemoryReply,
    DeviceMemoryRequest,
    HelloReply,
    HelloRequest,
    OldHelloReply,
    OldHelloRequest,
    Reply,
    Request,
)
from rpc_wrapper.rpc.resolve import UnresolvableHost, resolve
from rpc_wrapper.rpc.result import DeviceMemory, ProbeResult, ProbeState

MAX_WORKER_DEVICES = 64  # ours: a count beyond belief is not asked through one by one
HTTP_PATIENCE_S = 0.5
REFUSED_CERTIFICATE = "it left right after the TLS handshake: it refuses our certificate, and its log says why"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for 0 seconds

_Reply = TypeVar("_Reply", bound=Reply)


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS to a gate: the context, the name its certificate must carry, and what a failure means."""

    context: ssl.SSLContext
    server_name: str
    explain: Callable[[BaseException], str] = str


class PeerClosed(TransportError):
    """The peer closed the connection instead of answering."""


class PeerReset(PeerClosed):
    """The peer reset the connection: a gate does it to whom it turns away."""


class Client:
    """One open connection to a worker; use it as an async context manager, so that it is closed at once."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, timeout_s: float, tls: Tls | None = None
    ) -> None:
        self._tls = tls
        self._reader = reader
        self._writer = writer
        self._timeout_s = timeout_s
        self._connection = Connection()
        self._was_reset = False
        self._loop = asyncio.get_running_loop()
        self.rtt_s = math.inf  # the shortest round trip so far: the one that waited least for anything else

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def hello(self) -> ProtocolVersion:
        """Return the worker's version.

        Raise ReadTimeout when it is busy or frozen, PeerClosed when it hangs up, as one of an older protocol does,
        and RemoteProtocolError when it is no worker at all.
        """
        try:
            return (await self._ask(HelloRequest(), HelloReply)).version
        except ReadTimeout:
            await self._rule_out_http()
            raise

    async def old_hello(self) -> ProtocolVersion:
        """Return the version of a worker older than connection capabilities; raise as :meth:`hello` does."""
        return (await self._ask(OldHelloRequest(), OldHelloReply)).version

    async def device_count(self) -> int:
        """Return how many devices the worker exposes."""
        return (await self._ask(DeviceCountRequest(), DeviceCountReply)).device_count

    async def device_memory(self, device: int) -> DeviceMemory:
        """Return what the worker reports as free and total memory of one device."""
        reply = await self._ask(DeviceMemoryRequest(device), DeviceMemoryReply)
        return DeviceMemory(reply.free_bytes, reply.total_bytes)

    async def close(self) -> None:
        """Close: in the orderly way when nothing is owed, else by a reset (the module says why)."""
        if self._connection.is_idle:
            self._writer.close()
        else:
            sock = self._writer.get_extra_info("socket")
            if sock is not None:  # uvloop's way to say that it is gone
                with suppress(OSError):  # asyncio's
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._writer.transport.abort()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _ask(self, request: Request, expected: type[_Reply]) -> _Reply:
        self._writer.write(self._connection.send(request))
        name, timeout_s, sent_s = request.command.name, self._timeout_s, self._loop.time()
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._next_reply()
        except TimeoutError:
            raise ReadTimeout(f"it is connected but silent in {name} for {timeout_s:g} s") from None
        if reply is None and self._was_reset:
            raise PeerReset(f"it reset the connection instead of answering {name}")
        if reply is None:
            raise PeerClosed(f"it closed the connection instead of answering {name}")
        assert isinstance(reply, expected)
        self.rtt_s = min(self.rtt_s, self._loop.time() - sent_s)
        return reply

    async def _next_reply(self) -> Reply | None:
        while isinstance(event := self._connection.next_event(), NeedData):
            self._connection.receive_data(await self._read())
        return None if isinstance(event, ConnectionClosed) else event

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(4096)
        except (ConnectionResetError, BrokenPipeError):
            self._was_reset = True
            return b""
        except ssl.SSLError as exc:  # in TLS 1.3 a server says no only after the handshake
            raise TransportError(self._tls.explain(exc) if self._tls else str(exc)) from exc
        except OSError as exc:
            raise TransportError(f"the connection broke: {exc.strerror or exc}") from exc

    async def _rule_out_http(self) -> None:
        """Raise RemoteProtocolError when the silent peer is a web server still waiting for the end of a header.

        llama-server is one. A worker never sees these bytes as a command: the connection is reset after them.
        """
        self._writer.write(b"\r\n\r\n")
        with suppress(TimeoutError):
            async with asyncio.timeout(min(HTTP_PATIENCE_S, self._timeout_s)):
                answer = await self._read()
                if answer.startswith(b"HTTP/"):
                    raise RemoteProtocolError("it answered in HTTP: this is the port of a web server")
                if answer:  # a worker would not have said a word
                    raise RemoteProtocolError(f"it answered an empty line with {answer[:24]!r}: it is no worker")


async def connect(endpoint: Endpoint, *, timeout_s: float, tls: Tls | None = None) -> Client:
    """Open a connection to the first address that takes one; raise UnresolvableHost or ConnectError."""
    addresses = await resolve(endpoint, timeout_s=timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _open_first(addresses, endpoint.port, tls)
    except TimeoutError:
        raise ConnectError(
            f"nothing answered in {timeout_s:g} s: the machine is off, a firewall drops packets, "
            "or a busy worker already has its 2 clients waiting"
        ) from None
    return Client(reader, writer, timeout_s=timeout_s, tls=tls)


async def _open_first(
    addresses: Sequence[str], port: int, tls: Tls | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    last = OSError(errno.EADDRNOTAVAIL, "it has no address")
    secured = {"ssl": tls.context, "server_hostname": tls.server_name} if tls else {}
    for address in addresses:
        try:
            return await asyncio.open_connection(address, port, **secured)  # type: ignore[arg-type]
        except ssl.SSLError as exc:
            raise ConnectError(tls.explain(exc) if tls else str(exc)) from exc
        except OSError as exc:
            last = exc
    if last.errno == errno.ECONNREFUSED:
        raise ConnectError(f"the connection was refused: nothing listens on port {port} there") from last
    raise ConnectError(f"no connection could be made: {last.strerror or last}") from last


# First match wins: subclasses stand before their bases.
_STATE_OF_ERROR = (
    (UnresolvableHost, ProbeState.UNRESOLVABLE),
    (ReadTimeout, ProbeState.BUSY),
    (ProtocolError, ProbeState.NOT_RPC),
    (TransportError, ProbeState.DOWN),
)


async def probe(endpoint: Endpoint, *, timeout_s: float, tls: Tls | None = None) -> ProbeResult:
    """Ask one endpoint for its version and its devices' memory, each step within ``timeout_s``; never raise."""
    try:
        return await _interview(endpoint, timeout_s, tls)
    except (TransportError, ProtocolError) as exc:
        state = next(state for kind, state in _STATE_OF_ERROR if isinstance(exc, kind))
        detail = f"{exc}: it serves another client, or is frozen" if state is ProbeState.BUSY else str(exc)
        return ProbeResult(endpoint, state, detail=detail)


async def probe_all(endpoints: Sequence[Endpoint], *, timeout_s: float) -> tuple[ProbeResult, ...]:
    """Probe all endpoints at the same time; the results keep their order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(probe(endpoint, timeout_s=timeout_s)) for endpoint in endpoints]
    return tuple(task.result() for task in tasks)


async def _interview(endpoint: Endpoint, timeout_s: float, tls: Tls | None) -> ProbeResult:
    version = None
    async with await connect(endpoint, timeout_s=timeout_s, tls=tls) as client:
        try:
            version = await client.hello()
        except PeerClosed as exc:
            if tls is not None:  # in TLS 1.3 a server judges our certificate after we have taken its own
                raise TransportError(REFUSED_CERTIFICATE) from exc
        if version is not None and PINNED.accepts(version):
            return await _measure(client, endpoint, version)
    if version is None:
        version = await _old_version(endpoint, timeout_s, tls)
    detail = f"it speaks RPC protocol {version} and this engine {PINNED}: run the same llama.cpp on both"
    return ProbeResult(endpoint, ProbeState.WRONG_VERSION, version, detail=detail)


async def _old_version(endpoint: Endpoint, timeout_s: float, tls: Tls | None) -> ProtocolVersion:
    """Ask again as an old client would: only an old worker hangs up on today's HELLO and answers an empty one."""
    async with await connect(endpoint, timeout_s=timeout_s, tls=tls) as client:
        try:
            return await client.old_hello()
        except PeerReset as exc:
            raise TransportError("it resets connections on HELLO: its worker is not up, or it turns us away") from exc
        except PeerClosed as exc:
            # No proof of anything: a proxy in front of a worker that is not up yet does the same.
            raise TransportError(
                "it closes the connection on HELLO: its worker is not up, it demands TLS (APP_TLS=require), or it is"
                f" no RPC server of protocol {PINNED}"
            ) from exc


async def _measure(client: Client, endpoint: Endpoint, version: ProtocolVersion) -> ProbeResult:
    try:
        count = await client.device_count()
        if not 0 < count <= MAX_WORKER_DEVICES:
            raise RemoteProtocolError(f"it announces {count} devices, 1 to {MAX_WORKER_DEVICES} can be true")
        devices = tuple([await client.device_memory(device) for device in range(count)])
    except ReadTimeout as exc:  # HELLO was answered, so it was our turn: this is not "busy"
        raise TransportError(f"{exc}, after it had answered HELLO: frozen or overloaded") from exc
    return ProbeResult(endpoint, ProbeState.OK, version, devices, client.rtt_s, "it is free to serve")

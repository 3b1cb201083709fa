"""Sockets as a link needs them: every address of a name is tried, and a dead peer is noticed by the kernel."""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConnectError

Carry = Callable[[socket.socket], Coroutine[None, None, None]]

log = logging.getLogger(__name__)

Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]

_KEEPALIVE_IDLE_S = 5
_KEEPALIVE_INTERVAL_S = 5
_KEEPALIVE_PROBES = 3
# A full queue drops a SYN, and whoever sent it waits a second or more: a burst must not make a llama-server wait.
BACKLOG = 1024
_ACCEPT_PAUSE_S = 0.1  # when the process is out of file descriptors


def tune(sock: socket.socket, user_timeout_s: float) -> None:
    """Send small messages at once and give up on a host that is gone.

    TCP_USER_TIMEOUT also counts while a living peer leaves its window closed (Linux, ``tcp_probe_timer``), as a
    worker does that computes while the engine pushes: it must exceed the longest computation.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": _KEEPALIVE_IDLE_S,
        "TCP_KEEPINTVL": _KEEPALIVE_INTERVAL_S,
        "TCP_KEEPCNT": _KEEPALIVE_PROBES,
        "TCP_USER_TIMEOUT": int(user_timeout_s * 1000),
    }
    for name, value in options.items():
        if hasattr(socket, name):  # macOS has other names for some
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def connect(endpoint: Endpoint, *, timeout_s: float, user_timeout_s: float) -> socket.socket:
    """Connect to the first address of ``endpoint`` that answers, within ``timeout_s`` for all of them.

    Raise ConnectError with the reason each address gave.
    """
    reasons: list[str] = []
    try:
        async with asyncio.timeout(timeout_s):
            async for family, address in _addresses(endpoint):
                try:
                    return await _connect_one(family, address, user_timeout_s)
                except OSError as error:
                    reasons.append(f"{address[0]}: {os.strerror(error.errno) if error.errno else error}")
    except TimeoutError:
        reasons.append(f"no answer in {timeout_s:g} s")
    raise ConnectError(f"cannot connect to {endpoint} ({', '.join(reasons)}): is the backend running there?")


async def _addresses(endpoint: Endpoint) -> AsyncIterator[tuple[int, Address]]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectError(
            f"{endpoint.host} is not a name that resolves ({error.strerror}): check its spelling"
        ) from None
    for family, _, _, _, address in dict.fromkeys(found):
        yield family, address


async def _connect_one(family: int, address: Address, user_timeout_s: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        tune(sock, user_timeout_s)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def accept(listener: socket.socket, carry: Carry) -> None:
    """Run ``carry`` for every connection, all of them at once, until cancelled; then they are cancelled too."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as carried:
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            task = carried.create_task(_contain(carry, sock))
            task.add_done_callback(lambda _, sock=sock: sock.close())  # type: ignore[misc]


async def _contain(carry: Carry, sock: socket.socket) -> None:
    """Keep a bug in one connection from ending all the others."""
    try:
        await carry(sock)
    except Exception:
        log.exception("a connection ended by an error of ours")


def listen(host: str, port: int, *, backlog: int = BACKLOG) -> socket.socket:
    """Listen on one address; raise ConnectError when that is not possible."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
        with contextlib.ExitStack() as undo:
            sock = socket.socket(family, socket.SOCK_STREAM)
            undo.callback(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(backlog)
            sock.setblocking(False)
            undo.pop_all()
    except OSError as error:
        raise ConnectError(
            f"cannot listen on {host}:{port} ({error.strerror}): free the port or name another"
        ) from None
    return sock


def reset_on_close(sock: socket.socket) -> None:
    """Make the coming close a reset, which tells the peer that it was turned away, not that something ended."""
    with contextlib.suppress(OSError):  # it is closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

"""Run services (an HTTP app and the child it supervises) until a signal or a failure ends them."""

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil
import uvicorn
from fastapi import FastAPI

from rpc_wrapper.cli.http_protocol import PatientProtocol
from rpc_wrapper.errors import ConfigError, RPCWrapperError
from rpc_wrapper.link.tls import Identity, server_context
from rpc_wrapper.supervisor.runner import Runner

# After the drain nothing but dashboards' event streams is left open; they are cut after this.
GRACEFUL_S = 1
BACKLOG = 2048
MAX_OPEN_FILES = 65_536


class Life(Protocol):
    """What runs as long as a service does."""

    async def run(self) -> None:
        """Return when asked to stop; raise RPCWrapperError to give the service up."""

    def stop(self) -> None:
        """Ask for an orderly end."""

    def kill(self) -> None:
        """Ask for an end at once."""


@dataclass(frozen=True, slots=True)
class Service:
    """One HTTP app, where it listens, the runner of its child, its life, and how to let its requests finish."""

    app: FastAPI
    host: str
    port: int
    runner: Runner
    life: Life
    drain: Callable[[], Coroutine[object, object, None]] | None = None
    tls: Identity | None = None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the order of a shutdown is ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_loop(main: Coroutine[object, object, None]) -> None:
    """Run the program's one event loop: uvloop's where there is one."""
    allow_connections()
    try:
        import uvloop
    except ImportError:  # not on every platform
        asyncio.run(main)
    else:
        uvloop.run(main)


def allow_connections() -> None:
    """Raise the soft limit of open files, 1024 by custom, which every connection counts against."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise ConfigError that names who holds the port."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigError(f"cannot listen on {host!r}: it does not resolve; use an address of this machine") from error
    # With a protocol of 0 asyncio leaves TCP_NODELAY off, and every token waits for the client's ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _notice_vanished_clients(listener)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {_why(port, error)}") from error
    return listener


def _notice_vanished_clients(listener: socket.socket) -> None:
    """Let accepted sockets, which inherit these options, fail when the client's machine is gone without a FIN."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
        if hasattr(socket, name):  # Linux has them all, others some
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _why(port: int, error: OSError) -> str:
    owner = port_owner(port)
    if owner:
        return f"the port is taken by {owner}; stop it or choose another port"
    return f"{error.strerror or error}; choose another address or port"


def port_owner(port: int) -> str | None:
    """Return who listens on a TCP port, as far as we may know it."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})" if connection.pid else None
    return None


class Stop:
    """What the signals asked for: the first stops in order, the second forces."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()

    def __call__(self) -> None:
        """Note one more signal."""
        (self.forced if self.requested.is_set() else self.requested).set()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator["Stop"]:
        """Listen to SIGINT and SIGTERM while the context lasts."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self)
        try:
            yield self
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


async def run_services(services: Sequence[Service], stop: Stop) -> None:
    """Run services until one of their children gives up or `stop` asks; stop them first to last.

    Raises the RPCWrapperError of the child that gave up. Every port is taken before anything starts.
    """
    listeners = [listen(service.host, service.port) for service in services]
    failures: list[RPCWrapperError] = []
    async with asyncio.TaskGroup() as tasks:
        ends = [
            tasks.create_task(_run(service, listener, stop, failures))
            for service, listener in zip(services, listeners, strict=True)
        ]
        force = tasks.create_task(_force(services, stop))
        await stop.requested.wait()
        for service, end in zip(services, ends, strict=True):
            if service.drain and not stop.forced.is_set():
                await _unless(stop.forced, service.drain())
            service.life.stop()
            await asyncio.wait([end])
        force.cancel()
    if failures:
        raise failures[0]


async def _run(service: Service, listener: socket.socket, stop: Stop, failures: list[RPCWrapperError]) -> None:
    """Serve over HTTP for as long as the child's runner runs; its giving up stops everything."""
    tls = service.tls
    config = uvicorn.Config(
        service.app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_S,
        http=PatientProtocol,
        ssl_context_factory=(lambda *_: server_context(tls)) if tls else None,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        http = tasks.create_task(server.serve(sockets=[listener]))
        try:
            await service.life.run()
        except RPCWrapperError as error:
            failures.append(error)
        finally:
            stop.requested.set()
            server.should_exit = True
            await asyncio.wait([http])


async def _force(services: Sequence[Service], stop: Stop) -> None:
    await stop.forced.wait()
    for service in services:
        service.life.kill()


async def _unless(event: asyncio.Event, work: Coroutine[object, object, None]) -> None:
    """Await `work`, but drop it when `event` is set first."""
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(event.wait())
        working = tasks.create_task(work)
        await asyncio.wait([waiting, working], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        working.cancel()

"""Turn an endpoint's host into addresses, within a deadline."""

import asyncio
import socket
import threading
from contextlib import suppress

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConnectError


class UnresolvableHost(ConnectError):
    """The name has no address, or no name server answered in time."""


async def resolve(endpoint: Endpoint, *, timeout_s: float) -> tuple[str, ...]:
    """Return the addresses of the endpoint's host, IPv4 first, since the engine knows no other.

    Raise UnresolvableHost. A name server that never answers costs ``timeout_s`` and no more: the lookup runs in a
    daemon thread, because the loop's own executor would be waited for at exit.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[tuple[str, ...] | UnresolvableHost] = loop.create_future()

    def settle(outcome: tuple[str, ...] | UnresolvableHost) -> None:
        if not found.done():
            found.set_result(outcome)

    def work() -> None:
        outcome = _look_up(endpoint)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=work, name=f"resolve {endpoint}", daemon=True).start()
    try:
        async with asyncio.timeout(timeout_s):
            outcome = await found
    except TimeoutError:
        raise UnresolvableHost(f"no name server answered for {endpoint.host!r} in {timeout_s:g} s") from None
    if isinstance(outcome, UnresolvableHost):
        raise outcome
    return outcome


def _look_up(endpoint: Endpoint) -> tuple[str, ...] | UnresolvableHost:
    try:
        records = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as exc:  # ValueError: a label too long, a NUL byte
        reason = getattr(exc, "strerror", None) or "it is not a valid name"
        return UnresolvableHost(f"the name {endpoint.host!r} does not resolve ({reason}): check its spelling")
    addresses = [_address(sockaddr) for *_, sockaddr in sorted(records, key=lambda record: record[0] != socket.AF_INET)]
    return tuple(dict.fromkeys(addresses))


def _address(sockaddr: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> str:
    """Return the address with its zone, which a link-local IPv6 address needs."""
    address, scope = str(sockaddr[:1][0]), sockaddr[3] if len(sockaddr) == 4 else 0
    return f"{address}%{scope}" if scope and "%" not in address else address

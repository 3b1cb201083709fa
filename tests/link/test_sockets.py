"""What a link asks of the kernel."""

import socket
from collections.abc import AsyncIterator

import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConnectError
from rpc_wrapper.link import sockets

TCP = socket.IPPROTO_TCP


async def test_a_connection_sends_at_once_and_notices_a_dead_peer():
    with sockets.listen("127.0.0.1", 0) as listener:
        endpoint = Endpoint("127.0.0.1", listener.getsockname()[1])
        with await sockets.connect(endpoint, timeout_s=5, user_timeout_s=300) as sock:
            assert sock.getsockopt(TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(TCP, socket.TCP_USER_TIMEOUT) == 300_000
            probes = sock.getsockopt(TCP, socket.TCP_KEEPCNT) * sock.getsockopt(TCP, socket.TCP_KEEPINTVL)
            assert sock.getsockopt(TCP, socket.TCP_KEEPIDLE) + probes <= 30


async def test_every_address_that_failed_is_named(monkeypatch):
    with sockets.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

    async def addresses(endpoint: Endpoint) -> AsyncIterator[tuple[int, sockets.Address]]:
        for last in (1, 2):
            yield socket.AF_INET, (f"127.0.0.{last}", endpoint.port)

    monkeypatch.setattr(sockets, "_addresses", addresses)
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1: Connection refused, 127\.0\.0\.2: Connection refused"):
        await sockets.connect(Endpoint("backend", port), timeout_s=5, user_timeout_s=5)

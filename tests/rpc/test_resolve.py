import asyncio
import socket
import threading

import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.rpc.resolve import UnresolvableHost, resolve

V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 1))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 1, 0, 0))
LINK_LOCAL = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 1, 0, 3))


def answer_with(monkeypatch: pytest.MonkeyPatch, *records: object) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: list(records))


async def test_an_address_stands_for_itself():
    assert await resolve(Endpoint("127.0.0.1", 1), timeout_s=20) == ("127.0.0.1",)
    assert await resolve(Endpoint("::1", 1), timeout_s=20) == ("::1",)


async def test_ipv4_comes_first_and_nothing_twice(monkeypatch):
    answer_with(monkeypatch, V6, V4, V6, V4)
    assert await resolve(Endpoint("name", 1), timeout_s=20) == ("192.0.2.1", "2001:db8::1")


async def test_a_link_local_address_keeps_its_zone(monkeypatch):
    answer_with(monkeypatch, LINK_LOCAL)
    assert await resolve(Endpoint("name", 1), timeout_s=20) == ("fe80::1%3",)


@pytest.mark.parametrize("host", ["backend.invalid", "a" * 64 + ".example", "no..dots", "nul\0"])
async def test_a_name_without_address_is_said_to_be_one(host):
    with pytest.raises(UnresolvableHost, match="check its spelling"):
        await resolve(Endpoint(host, 1), timeout_s=20)


async def test_a_silent_name_server_costs_the_deadline_and_no_more(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: [V4] if release.wait(60) else [])
    with pytest.raises(UnresolvableHost, match=r"no name server answered for 'name' in 0\.05 s"):
        await resolve(Endpoint("name", 1), timeout_s=0.05)
    release.set()  # the late answer must harm nobody
    for thread in threading.enumerate():
        if thread.name == "resolve name:1":
            await asyncio.to_thread(thread.join, 20)

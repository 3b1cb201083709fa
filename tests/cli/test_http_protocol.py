"""Connections that never ask anything, or never to the end, against a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from rpc_wrapper.cli import http_protocol
from rpc_wrapper.cli.http_protocol import PatientProtocol

DEADLINE_S = 20.0
PATIENCE_S = 0.3
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Take longer than anybody's patience, then answer with the body."""
    if scope["type"] != "http":
        return
    body = (await receive())["body"]
    await asyncio.sleep(PATIENCE_S * 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": body or b"no"})


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a server of that app."""
    config = uvicorn.Config(app, port=0, http=PatientProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await server.shutdown()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_S", PATIENCE_S)


async def test_who_says_nothing_or_half_a_head_is_dropped():
    for said in (b"", REQUEST[:-2]):
        async with connection() as (reader, writer), asyncio.timeout(DEADLINE_S):
            writer.write(said)
            assert await reader.read() == b""


async def test_a_request_may_take_its_time():
    async with connection() as (reader, writer), asyncio.timeout(DEADLINE_S):
        writer.write(REQUEST + b"ok")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")


async def test_the_second_half_request_on_a_connection_is_dropped_too():
    async with connection() as (reader, writer), asyncio.timeout(DEADLINE_S):
        writer.write(REQUEST + b"ok")
        await reader.readuntil(b"ok")
        writer.write(REQUEST[:10])
        assert await reader.read() == b""

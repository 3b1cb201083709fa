"""Request ids, and errors nobody foresaw."""

import asyncio

import httpx
import pytest

from rpc_wrapper.errors import PlanError
from rpc_wrapper.gateway import GatewayConfig, Target
from tests.gateway.serve import FakeUpstream, engine, serving


class BrokenUpstream(FakeUpstream):
    def __init__(self, error: Exception) -> None:
        super().__init__(Target("http://127.0.0.1:1"))
        self.error = error

    def snapshot(self):
        raise self.error


async def test_a_request_id_goes_all_the_way():
    async with engine() as fake, serving(FakeUpstream(fake.target)) as client:
        response = await client.get("/props", headers={"x-request-id": "trace-1"})
        seen = (await fake.ledger())["requests"][0]
    assert response.headers.get_list("x-request-id") == ["trace-1"]
    assert seen["headers"]["x-request-id"] == "trace-1"


async def test_a_missing_or_odd_request_id_is_made_up():
    async with serving(FakeUpstream()) as client:
        first = await client.get("/livez")
        second = await client.get("/livez", headers={"x-request-id": "{evil}"})
        refused = await client.get("/nothing")
    ids = [response.headers["x-request-id"] for response in (first, second, refused)]
    assert len({len(request_id) for request_id in ids}) == 1
    assert len(set(ids)) == 3


async def test_our_errors_become_envelopes():
    async with serving(BrokenUpstream(PlanError("8 blocks do not go into 9 parts"))) as client:
        response = await client.get("/cluster")
    assert response.status_code == 500
    assert response.json()["error"]["message"] == "8 blocks do not go into 9 parts"


async def test_a_bug_shows_no_traceback(caplog):
    async with serving(BrokenUpstream(ZeroDivisionError("secret"))) as client:
        response = await client.get("/cluster", headers={"x-request-id": "r-7"})
        assert (await client.get("/livez")).status_code == 200
    assert response.status_code == 500
    assert "r-7" in response.json()["error"]["message"]
    assert "secret" not in response.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_refusal_speaks_the_clients_dialect():
    async with serving(FakeUpstream(), GatewayConfig(api_keys=("k",))) as client:
        anthropic = await client.post("/v1/messages", json={})
        openai = await client.post("/v1/chat/completions", json={})
    assert anthropic.json()["type"] == "error"
    assert list(openai.json()) == ["error"]


@pytest.mark.parametrize("path", ["/livez", "/completion"])
async def test_websockets_are_turned_away(path):
    async with serving(FakeUpstream()) as client:
        url = httpx.URL(str(client.base_url))
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert b" 403 " in await reader.readline()
        writer.close()

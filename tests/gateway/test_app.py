"""How the application is put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from rpc_wrapper.gateway import GatewayConfig, create_app
from rpc_wrapper.gateway.endpoints import Kind
from rpc_wrapper.gateway.exchange import EngineAnswer
from tests.gateway.serve import DEADLINE_S, FakeUpstream, engine, running, serving


async def test_the_lifespan_given_runs_around_the_service():
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(app):
        order.append("up")
        yield
        order.append("down")

    async with running(create_app(GatewayConfig(), FakeUpstream(), lifespan)) as base_url:
        async with httpx.AsyncClient(base_url=base_url) as client:
            assert (await client.get("/livez")).status_code == 200
        order.append("served")
    assert order == ["up", "served", "down"]


async def test_another_exchange_can_be_put_around_the_direct_one():
    def wrap(direct):
        @asynccontextmanager
        async def shouting(request):
            async with direct(request) as answer:

                async def louder() -> AsyncIterator[bytes]:
                    async for chunk in answer.chunks:
                        yield chunk.upper()

                yield EngineAnswer(answer.status, answer.headers, louder())

        return shouting

    async with engine() as fake:
        app = create_app(GatewayConfig(), FakeUpstream(fake.target), wrap=wrap)
        async with running(app) as base_url, httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S) as client:
            response = await client.post("/completion", json={"prompt": "a", "n_predict": 1})
    assert b'"CONTENT"' in response.content


@pytest.mark.parametrize(("docs", "status"), [(False, 404), (True, 200)])
async def test_the_docs_are_there_when_asked_for(docs, status):
    async with serving(FakeUpstream(), GatewayConfig(docs=docs)) as client:
        assert [(await client.get(path)).status_code for path in ("/docs", "/openapi.json")] == [status] * 2


async def test_draining_gives_up_in_time():
    gateway = create_app(GatewayConfig(), FakeUpstream()).state.gateway
    async with gateway.gates[Kind.INFERENCE].place(0):
        assert await gateway.drain(0.01) is False
    assert await gateway.drain(0.01) is True


def test_the_configuration_hides_its_keys():
    assert "sesame" not in repr(GatewayConfig(api_keys=("sesame",), admin_keys=("sesame",)))

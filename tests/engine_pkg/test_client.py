"""Asking llama-server: answers, refusals, silence."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from rpc_wrapper.engine.client import EngineClient
from rpc_wrapper.errors import NotReady, UpstreamError

Answer = Callable[[httpx.Request], httpx.Response]
LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


def client(answer: Answer) -> EngineClient:
    return EngineClient("http://engine", "sk-1", transport=httpx.MockTransport(answer))


def json_answer(status: int, body: object) -> Answer:
    return lambda request: httpx.Response(status, json=body)


async def test_health_is_true_only_when_loaded():
    async with client(json_answer(200, {"status": "ok"})) as engine:
        assert await engine.is_healthy()
    async with client(json_answer(503, LOADING)) as engine:
        assert not await engine.is_healthy()


async def test_nobody_there_is_not_healthy(unused_tcp_port):
    async with EngineClient(f"http://127.0.0.1:{unused_tcp_port}", None) as engine:
        assert not await engine.is_healthy()
        with pytest.raises(UpstreamError, match="cannot be reached for /props"):
            await engine.props()


async def test_the_canary_is_one_token_with_the_key_and_without_the_cache():
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"tokens_predicted": 1, "timings": {"prompt_ms": 2.0, "predicted_ms": 0.5}})

    async with client(answer) as engine:
        canary = await engine.canary()
    assert (canary.predicted, canary.total_ms) == (1, 2.5)
    body = json.loads(seen[0].content)
    assert (body["n_predict"], body["cache_prompt"]) == (1, False)
    assert seen[0].headers["authorization"] == "Bearer sk-1"


async def test_an_answer_without_a_token_is_no_canary():
    async with client(json_answer(200, {"tokens_predicted": 0})) as engine:
        with pytest.raises(UpstreamError, match="without a token"):
            await engine.canary()


async def test_a_refusal_carries_the_engines_words():
    async with client(json_answer(503, LOADING)) as engine:
        with pytest.raises(NotReady, match="Loading model"):
            await engine.canary()
    async with client(json_answer(400, {"error": {"message": "no prompt"}})) as engine:
        with pytest.raises(UpstreamError, match=r"refused /tokenize with 400: no prompt"):
            await engine.tokenize("a")
    async with client(lambda request: httpx.Response(500, text="<h1>no</h1>")) as engine:
        with pytest.raises(UpstreamError, match="<h1>no</h1>"):
            await engine.slots()
    async with client(lambda request: httpx.Response(200, text="no json")) as engine:
        with pytest.raises(UpstreamError, match="no JSON"):
            await engine.props()


async def test_tokens_are_numbers():
    async with client(json_answer(200, {"tokens": [1, 2, 3]})) as engine:
        assert await engine.tokenize("a") == [1, 2, 3]


async def test_a_silent_engine_is_given_up():
    released = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with EngineClient(f"http://127.0.0.1:{port}", None) as engine:
            with pytest.raises(UpstreamError, match=r"did not answer /completion within 0\.2 s"):
                await engine.canary(timeout_s=0.2)
        released.set()

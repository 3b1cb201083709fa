"""The proxy over real sockets: a real server in front, a misbehaving engine behind."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest

from rpc_wrapper.gateway import GatewayConfig, Target, create_app
from rpc_wrapper.gateway.endpoints import Kind
from rpc_wrapper.gateway.visit import shows_token
from tests.gateway.serve import DEADLINE_S, FakeUpstream, engine, running, serving, until

PROMPT = {"prompt": "日本語 🐈 naïve", "n_predict": 12}
STREAM = PROMPT | {"stream": True}
CHAT = {"model": "", "messages": [{"role": "user", "content": "猫は?"}], "max_tokens": 6}
MESSAGES = {"model": "m", "max_tokens": 6, "messages": [{"role": "user", "content": "hi"}]}


def events(body: bytes) -> list[bytes]:
    return [event for event in body.split(b"\n\n") if event]


# What crosses untouched


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completion", PROMPT),
        ("/completion", STREAM),
        ("/v1/completions", PROMPT),
        ("/v1/completions", STREAM),
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", CHAT | {"stream": True}),
        ("/v1/messages", MESSAGES),
        ("/v1/messages", MESSAGES | {"stream": True}),
        ("/v1/embeddings", {"input": "猫"}),
        ("/tokenize", {"content": "🐈"}),
        ("/detokenize", {"tokens": [230, 151, 165]}),
    ],
)
async def test_every_byte_is_the_engines(path, body):
    async with engine() as fake, serving(FakeUpstream(fake.target)) as client:
        direct = await fake.direct("POST", path, json=body)
        through = await client.post(path, json=body)
    assert through.status_code == direct.status_code == 200
    assert through.content == direct.content
    assert through.headers["content-type"] == direct.headers["content-type"]
    assert through.headers["server"] == "llama.cpp"


async def test_the_request_arrives_as_it_was_sent():
    body = '{ "prompt" : "温度 🐈",\r\n\t"n_predict":1 ,"n_predict": 2, "model":"" }'
    async with engine() as fake, serving(FakeUpstream(fake.target)) as client:
        await client.post("/completion?a=%2F&b=%E7%8C%AB", content=body.encode(), headers={"x-custom": "kept"})
        seen = (await fake.ledger())["requests"][0]
    assert seen["body"] == body
    assert (seen["path"], seen["query"]) == ("/completion", "a=%2F&b=%E7%8C%AB")
    assert seen["headers"]["x-custom"] == "kept"


async def test_the_engines_own_refusal_passes_through():
    async with engine() as fake, serving(FakeUpstream(fake.target)) as client:
        body = PROMPT | {"n_discard": -1}
        direct = await fake.direct("POST", "/completion", json=body)
        through = await client.post("/completion", json=body)
    assert (through.status_code, through.content) == (400, direct.content)


async def test_a_stream_is_not_buffered():
    async with (
        engine("--stall-after-tokens", "3") as fake,
        serving(FakeUpstream(fake.target)) as client,
        client.stream("POST", "/completion", json=STREAM) as response,
    ):
        assert response.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in response.headers
        chunks = response.aiter_raw()
        seen = b""
        while len(events(seen)) < 3:
            seen += await anext(chunks)
        await fake.release()
        async for chunk in chunks:
            seen += chunk
    assert len(events(seen)) == 12


async def test_secrets_stop_at_the_gateway():
    config = GatewayConfig(api_keys=("client-key",))
    async with engine() as fake, serving(FakeUpstream(fake.target), config) as client:
        headers = {"authorization": "Bearer client-key", "x-api-key": "client-key", "cookie": "client-key"}
        assert (await client.post("/completion", json=PROMPT, headers=headers)).status_code == 200
        seen = (await fake.ledger())["requests"][0]
    assert "client-key" not in json.dumps(seen)
    assert seen["headers"]["authorization"] == "Bearer engine-key"


@pytest.mark.parametrize("path", ["/props", "/v1/models", "/slots"])
async def test_get_and_head(path):
    async with engine() as fake, serving(FakeUpstream(fake.target)) as client:
        got, head = await client.get(path), await client.head(path)
    assert got.status_code == head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(got.content))


async def test_a_preflight_is_the_engines_to_answer():
    config = GatewayConfig(api_keys=("k",))
    async with engine() as fake, serving(FakeUpstream(fake.target), config) as client:
        response = await client.options("/v1/chat/completions", headers={"origin": "https://app.example"})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "*"


# What is refused, or remarked upon


async def test_dangerous_endpoints_do_not_reach_the_engine():
    async with engine() as fake, serving(FakeUpstream(fake.target)) as client:
        refused = await client.post("/slots/0?action=erase", json={})
        spelt = await client.post("/%73lots/0", json={})
        ledger = await fake.ledger()
    assert (refused.status_code, spelt.status_code, ledger["seen"]) == (403, 403, 0)
    assert refused.json()["error"]["code"] == "endpoint_refused"


async def test_passthrough_all_reaches_everything():
    config = GatewayConfig(passthrough_all=True)
    async with engine() as fake, serving(FakeUpstream(fake.target), config) as client:
        answer = await client.post("/slots/0?action=erase", content=b"not json")
        seen = (await fake.ledger())["requests"][0]
    assert answer.status_code == 404, "the fake engine has none"
    assert (seen["path"], seen["query"], seen["body"]) == ("/slots/0", "action=erase", "not json")


async def test_unknown_fields_are_named():
    async with engine() as fake, serving(FakeUpstream(fake.target)) as client:
        wrong = await client.post("/completion", json=PROMPT | {"templature": 0.5, "温": 1})
        right = await client.post("/completion", json=PROMPT | {"temperature": 0.5, "model": ""})
        streamed = await client.post("/completion", json=STREAM | {"templature": 0.5})
    assert wrong.headers["x-unknown-fields"] == "templature, %E6%B8%A9"
    assert streamed.headers["x-unknown-fields"] == "templature"
    assert "x-unknown-fields" not in right.headers
    assert wrong.content == right.content


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"prompt=hello", b'{"a": "\xff"}'])
async def test_a_body_that_is_not_json_is_refused_in_words(body):
    async with engine() as fake, serving(FakeUpstream(fake.target)) as client:
        response = await client.post("/v1/chat/completions", content=body)
        assert (await fake.ledger())["seen"] == 0
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_json"
    assert response.json()["error"]["source"] == "gateway"


async def test_a_body_over_the_limit_is_refused_however_it_comes():
    config = GatewayConfig(max_body_bytes=1000)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * 1000

    async with engine() as fake, serving(FakeUpstream(fake.target), config) as client:
        declared = await client.post("/completion", content=b" " * 1001)
        chunked = await client.post("/completion", content=pieces())
        exact = await client.post("/completion", content=json.dumps(PROMPT).encode().ljust(1000))
    assert (declared.status_code, chunked.status_code, exact.status_code) == (413, 413, 200)
    assert "1000 bytes" in declared.json()["error"]["message"]


# When the client leaves


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tokens", [0, 3])
async def test_leaving_cancels_a_silent_engine(stream, tokens):
    async with engine("--stall-after-tokens", str(tokens)) as fake, serving(FakeUpstream(fake.target)) as client:
        request = asyncio.create_task(client.post("/completion", json=PROMPT | {"stream": stream}))
        await fake.ledger(running=1)
        request.cancel()
        async with asyncio.timeout(DEADLINE_S):
            ledger = await fake.ledger(cancelled=1)
    assert ledger["running"] == 0


async def test_a_half_closed_client_has_left():
    upstream = FakeUpstream()
    async with engine("--stall-after-tokens", "2") as fake, running(create_app(GatewayConfig(), upstream)) as base_url:
        upstream.target = fake.target
        upstream.ready.set()
        url = httpx.URL(base_url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        body = json.dumps(STREAM).encode()
        writer.write(b"POST /completion HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await reader.readuntil(b"\n\n")
        writer.write_eof()
        async with asyncio.timeout(DEADLINE_S):
            await fake.ledger(cancelled=1)
        writer.close()


async def test_leaving_in_the_middle_of_the_request_body_asks_nothing():
    async with engine() as fake:
        upstream = FakeUpstream(fake.target)
        app = create_app(GatewayConfig(), upstream)
        async with running(app) as base_url:
            url = httpx.URL(base_url)
            _, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(b'POST /completion HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"prompt"')
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        assert (await fake.ledger())["seen"] == 0


# When the engine leaves


async def test_an_engine_that_dies_before_it_answers():
    async with engine("--die-after-tokens", "0") as fake, serving(FakeUpstream(fake.target)) as client:
        first = await client.post("/completion", json=PROMPT)
        await fake.process.wait()
        second = await client.post("/completion", json=PROMPT)
    for response in (first, second):
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["source"]) == (502, "engine_lost", "engine")


@pytest.mark.parametrize("fault", ["--die-after-tokens=5", "--close-mid-body"])
async def test_a_broken_stream_ends_with_an_error_event(fault):
    async with engine(fault) as fake, serving(FakeUpstream(fake.target)) as client:
        response = await client.post("/completion", json=STREAM)
    *before, last = events(response.content)
    assert len(before) >= 5
    assert all(event.startswith(b"data: {") for event in before)
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert (error["code"], error["source"]) == ("engine_lost", "engine")


async def test_a_broken_stream_ends_in_the_clients_dialect():
    async with engine("--die-after-tokens=3") as fake, serving(FakeUpstream(fake.target)) as client:
        response = await client.post("/v1/messages", json=MESSAGES | {"stream": True})
    name, data = events(response.content)[-1].split(b"\n")
    assert name == b"event: error"
    assert json.loads(data.removeprefix(b"data: "))["type"] == "error"


async def test_a_broken_body_is_cut_not_completed():
    async with engine("--close-mid-body") as fake, serving(FakeUpstream(fake.target)) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/completion", json=PROMPT)
        assert (await client.get("/livez")).status_code == 200


# Who may wait


async def test_exactly_slots_and_queue_are_accepted():
    config = GatewayConfig(slots=2, max_queue=3)
    async with engine("--stall-after-tokens", "0") as fake, serving(FakeUpstream(fake.target), config) as client:
        requests = [asyncio.create_task(client.post("/completion", json=PROMPT)) for _ in range(12)]
        refused = [task.result() for task in await _first_done(requests, 7)]
        assert (await fake.ledger(seen=2))["running"] == 2
        await fake.release()
        answered = [response for response in await asyncio.gather(*requests) if response.status_code != 429]
        ledger = await fake.ledger()
    assert [response.status_code for response in refused] == [429] * 7
    assert [response.status_code for response in answered] == [200] * 5
    assert (ledger["seen"], ledger["peak"]) == (5, 2)
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["error"]["type"] == "rate_limit_error"


async def _first_done(tasks: Iterable[asyncio.Task[httpx.Response]], count: int) -> list[asyncio.Task[httpx.Response]]:
    pending = set(tasks)
    finished: list[asyncio.Task[httpx.Response]] = []
    while len(finished) < count:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE_S)
        assert done, "nobody else was refused in time"
        finished += done
    return finished


async def test_leaving_the_queue_frees_the_place():
    config = GatewayConfig(slots=1, max_queue=1)
    async with engine("--stall-after-tokens", "0") as fake:
        app = create_app(config, FakeUpstream(fake.target))
        line = app.state.gateway.gates[Kind.INFERENCE].line
        async with running(app) as base_url, httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S) as client:
            first = asyncio.create_task(client.post("/completion", json=PROMPT))
            await fake.ledger(running=1)
            queued = asyncio.create_task(client.post("/completion", json=PROMPT))
            await until(lambda: line.waiting == 1)
            assert (await client.post("/completion", json=PROMPT)).status_code == 429
            queued.cancel()
            await until(lambda: line.waiting == 0)
            second = asyncio.create_task(client.post("/completion", json=PROMPT))
            await until(lambda: line.waiting == 1)
            await fake.release()
            assert [(await first).status_code, (await second).status_code] == [200, 200]


async def test_light_and_status_requests_do_not_queue_behind_generation():
    config = GatewayConfig(slots=1, max_queue=0)
    async with engine("--stall-after-tokens", "0") as fake, serving(FakeUpstream(fake.target), config) as client:
        generation = asyncio.create_task(client.post("/completion", json=PROMPT))
        await fake.ledger(running=1)
        assert (await client.post("/tokenize", json={"content": "a"})).status_code == 200
        assert (await client.get("/props")).status_code == 200
        assert (await client.post("/completion", json=PROMPT)).status_code == 429
        await fake.release()
        assert (await generation).status_code == 200


@pytest.mark.parametrize("path", ["/completion", "/tokenize", "/props"])
async def test_before_the_first_readiness_nobody_waits(path):
    async with serving(FakeUpstream(ever_ready=False)) as client:
        response = await (client.get(path) if path == "/props" else client.post(path, json=PROMPT))
    error = response.json()["error"]
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")
    assert (error["code"], error["type"]) == ("not_ready", "unavailable_error")
    assert error["cluster"] == {"state": "loading", "progress": 0.25, "missing": ["backend-cpu:50052"]}


@pytest.mark.parametrize("path", ["/completion", "/tokenize"])
async def test_during_a_recovery_requests_wait(path):
    upstream = FakeUpstream()
    async with engine() as fake, serving(upstream) as client:
        request = asyncio.create_task(client.post(path, json=PROMPT | {"content": "a"}))
        await asyncio.wait_for(upstream.waiting.wait(), DEADLINE_S)
        upstream.target = fake.target
        upstream.ready.set()
        assert (await request).status_code == 200


async def test_waiting_for_a_recovery_has_an_end():
    async with serving(FakeUpstream(), GatewayConfig(queue_wait_s=0.05)) as client:
        response = await client.post("/completion", json=PROMPT)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "7"


async def test_leaving_during_a_recovery_is_noticed():
    upstream = FakeUpstream()
    app = create_app(GatewayConfig(), upstream)
    async with running(app) as base_url, httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S) as client:
        request = asyncio.create_task(client.post("/completion", json=PROMPT))
        await asyncio.wait_for(upstream.waiting.wait(), DEADLINE_S)
        request.cancel()
        await until(lambda: app.state.gateway.gates[Kind.INFERENCE].line.running == 0)


async def test_draining_finishes_what_is_inside():
    async with engine("--stall-after-tokens", "0") as fake:
        app = create_app(GatewayConfig(slots=1), FakeUpstream(fake.target))
        async with running(app) as base_url, httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S) as client:
            inside = [asyncio.create_task(client.post("/completion", json=PROMPT)) for _ in range(2)]
            await until(lambda: app.state.gateway.gates[Kind.INFERENCE].line.waiting == 1)
            drained = asyncio.create_task(app.state.gateway.drain(DEADLINE_S))
            await until(lambda: app.state.gateway.gates[Kind.INFERENCE].line.draining)
            late = await client.post("/completion", json=PROMPT)
            await fake.release()
            assert [response.status_code for response in await asyncio.gather(*inside)] == [200, 200]
            assert await drained is True
            assert (await client.get("/livez")).status_code == 200
    assert (late.status_code, late.headers["retry-after"]) == (503, "10")


# What proves the engine alive


async def test_tokens_of_real_traffic_are_noted():
    async with engine() as fake:
        upstream = FakeUpstream(fake.target)
        async with serving(upstream) as client:
            await client.post("/tokenize", json={"content": "a"})
            await client.post("/embeddings", json={"input": "a"})
            await client.post("/completion", json=PROMPT | {"n_discard": -1})
            assert upstream.tokens == 0
            await client.post("/completion", json=PROMPT)
            assert upstream.tokens == 1
            await client.post("/completion", json=STREAM)
            assert upstream.tokens > 1


@pytest.mark.parametrize(
    ("chunk", "shown"),
    [
        (b'data: {"content":" the"}\n\n', True),
        (b'{"content":" the"}', True),
        (b":\n\n", False),
        (b'data: {"error":{"code":500}}\n\n', False),
        (b'data: {"content":"","prompt_progress":{"total":9}}\n\n', False),
    ],
)
def test_what_proves_a_token(chunk, shown):
    assert shows_token(chunk) is shown


async def test_a_wrong_engine_address_is_the_engines_fault():
    upstream = FakeUpstream(Target("http://127.0.0.1:1", "k"))
    async with serving(upstream) as client:
        response = await client.get("/props")
    assert (response.status_code, response.json()["error"]["source"]) == (502, "engine")

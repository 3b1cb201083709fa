"""``GET /stream``: docker-distributed-llm's events, from a real gateway over a fake engine."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from rpc_wrapper.errors import RPCWrapperError
from rpc_wrapper.gateway import GatewayConfig
from rpc_wrapper.gateway.errors import Refusal
from rpc_wrapper.gateway.text_stream import Loads, parameters
from rpc_wrapper.gateway.token_delay import TokenDelay
from tests.fakes.llama_server import continuation, detokenize, tokenize
from tests.gateway.serve import FakeUpstream, engine, serving

MIB = 1024 * 1024
NODES = [
    {"name": "10.0.0.1:50052", "state": "up", "cpu_percent": 50.0, "rss_bytes": 3 * MIB},
    {"name": "server", "state": "up", "cpu_percent": 120.0, "rss_bytes": 5 * MIB},
    {"name": "10.0.0.2:50052", "state": "down", "cpu_percent": None, "rss_bytes": None},
]


def upstream(target=None) -> FakeUpstream:
    fake = FakeUpstream(target)
    fake.sections = {"nodes": NODES}
    return fake


def events(text: str) -> list[Any]:
    """Return each event's data, parsed where it is JSON; comments are skipped."""
    found = [event.removeprefix("data: ") for event in text.split("\n\n") if event.startswith("data: ")]
    return [event if event == "[DONE]" else json.loads(event) for event in found]


async def stream(client: httpx.AsyncClient, **query: Any) -> list[Any]:
    answer = await client.get("/stream", params=query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    return events(answer.text)


async def test_texts_then_times_then_done():
    async with engine() as fake, serving(upstream(fake.target)) as client:
        *texts, times, done = await stream(client, prompt="日本 a\nb|c", max_tokens=12)
        sent = (await fake.ledger())["requests"][0]
    assert "".join(event["text"] for event in texts) == detokenize(continuation(tokenize("日本 a\nb|c"), 12))
    assert len(texts) == 12
    assert json.loads(sent["body"]) == {"prompt": "日本 a\nb|c", "n_predict": 12, "stream": True}
    assert done == "[DONE]"
    assert list(times)[:4] == ["ttft", "total_delay", "cpu_stats", "mem_stats"]
    assert times["ttft"] > 0
    assert (times["total_delay"], times["ttft_with_delay"]) == (0.0, times["ttft"])
    assert times["cpu_stats"] == {"backend": {"max": 120.0, "avg": 120.0}, "worker1": {"max": 50.0, "avg": 50.0}}
    assert times["mem_stats"]["worker1"] == {"max": 3.0, "avg": 3.0}
    assert times["tokens"] == 12


async def test_even_one_token_has_its_loads():
    async with engine() as fake, serving(upstream(fake.target)) as client:
        *_, times, _ = await stream(client, prompt="a", max_tokens=1)
    assert set(times["mem_stats"]) == {"backend", "worker1"}


async def test_the_default_is_256_tokens():
    async with engine() as fake, serving(upstream(fake.target)) as client:
        await stream(client, prompt="a")
        assert json.loads((await fake.ledger())["requests"][0]["body"])["n_predict"] == 256


async def test_two_at_once_are_told_apart():
    async with engine("--token-delay-ms", "2") as fake, serving(upstream(fake.target)) as client:
        one, two = await asyncio.gather(
            stream(client, prompt="a", max_tokens=5), stream(client, prompt="bb", max_tokens=9)
        )
    assert [(each[-2]["tokens"], each[-1]) for each in (one, two)] == [(5, "[DONE]"), (9, "[DONE]")]
    assert one[-2]["request_id"] != two[-2]["request_id"]


async def test_the_token_delay_is_reported_beside_the_time_without_it():
    config = GatewayConfig(token_delay=TokenDelay(0.01, 0.02, seed=1))
    async with engine() as fake, serving(upstream(fake.target), config) as client:
        *_, times, done = await stream(client, prompt="a", max_tokens=5)
    assert done == "[DONE]"
    assert 5 * 0.01 <= times["total_delay"] <= 5 * 0.02
    assert times["ttft"] + 0.01 <= times["ttft_with_delay"]


async def test_it_counts_like_any_other_request():
    async with engine() as fake, serving(upstream(fake.target)) as client:
        await stream(client, prompt="a", max_tokens=5)
        metrics = (await client.get("/metrics")).text
    assert 'rpcw_requests_total{endpoint="/stream",outcome="ok"} 1.0' in metrics
    assert 'rpcw_ttft_seconds_count{endpoint="/stream"} 1.0' in metrics
    assert "rpcw_generated_tokens_total 5.0" in metrics


async def test_a_failure_is_an_event():
    async with engine("--close-mid-body") as fake, serving(upstream(fake.target)) as client:
        *texts, last = await stream(client, prompt="a", max_tokens=8)
        assert len(texts) == 4
        assert list(last) == ["error"]
        assert 'outcome="broken_off"' in (await client.get("/metrics")).text


async def test_an_engine_that_is_not_there_is_an_event():
    fake = upstream()
    fake.ever_ready = False
    async with serving(fake) as client:
        (only,) = await stream(client, prompt="a")
    assert only == {"error": "The engine is loading: waiting for backend-cpu:50052."}


async def test_a_client_that_leaves_frees_the_engine():
    async with engine("--stall-after-tokens", "2") as fake, serving(upstream(fake.target)) as client:
        async with client.stream("GET", "/stream?prompt=a&max_tokens=9") as answer:
            await anext(answer.aiter_raw())
        assert (await fake.ledger(cancelled=1))["running"] == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"prompt=a", ("a", 256)),
        (b"prompt=&max_tokens=1", ("", 1)),
        ("prompt=日本".encode(), ("日本", 256)),
        (b"prompt=a+b%20c%0A%E3%81%82&max_tokens=1024", ("a b c\nあ", 1024)),
    ],
)
def test_parameters(query, expected):
    assert parameters(query) == expected


@pytest.mark.parametrize(
    "query",
    [b"", b"max_tokens=5", *(b"prompt=a&max_tokens=" + n for n in (b"0", b"1025", b"-1", b"", b"1e3", b"9" * 5000))],
)
def test_parameters_that_make_no_sense(query):
    with pytest.raises(Refusal) as caught:
        parameters(query)
    assert isinstance(caught.value, RPCWrapperError)
    assert caught.value.problem.status == 400
    assert len(str(caught.value)) < 200


async def test_they_are_refused_before_anything_is_sent():
    async with serving(upstream(), GatewayConfig(api_keys=("k",))) as client:
        key = {"authorization": "Bearer k"}
        assert (await client.get("/stream?prompt=a")).status_code == 401
        refused = await client.get("/stream?prompt=a&max_tokens=2000", headers=key)
        assert (await client.post("/stream?prompt=a", headers=key)).status_code in (404, 405)
    assert refused.status_code == 400
    assert "1024" in refused.json()["error"]["message"]


def test_loads_keep_the_highest_and_the_mean():
    loads = Loads()
    for cpu, memory in ((10.0, 1), (30.0, 3), (None, None)):
        loads.add([{"cpu_percent": cpu, "rss_bytes": memory and memory * MIB}])
    assert loads.to_json() == {
        "cpu_stats": {"backend": {"max": 30.0, "avg": 20.0}},
        "mem_stats": {"backend": {"max": 3.0, "avg": 2.0}},
    }

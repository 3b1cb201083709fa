"""The simulated pause before every token of a stream."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rpc_wrapper.access import Headers
from rpc_wrapper.gateway import GatewayConfig
from rpc_wrapper.gateway.endpoints import ENDPOINTS
from rpc_wrapper.gateway.exchange import EngineAnswer, EngineRequest, Exchange
from rpc_wrapper.gateway.token_delay import DelayedExchange, TokenDelay
from tests.gateway.serve import FakeUpstream, engine, serving

EVENT_STREAM = [(b"content-type", b"text/event-stream")]
PIECES = [
    b": ping\n\n",
    b'data: {"content":"a"}\n\nda',
    b'ta: {"content":"b"}\n\n',
    b'data: {"content":""}\n\n',
    b'data: {"content":"c","stop":true}\n\n',
    b"data: [DONE]\n\n",
]
REPORT = re.compile(rb": token delay: total_delay=([\d.]+) ttft=([\d.]+) ttft_with_delay=([\d.]+)\n\n")


def request() -> EngineRequest:
    return EngineRequest(ENDPOINTS["/completion"], "POST", b"", [], b"{}", "r", 0.0)


def inner(status: int = 200, headers: Headers = EVENT_STREAM) -> Exchange:
    @asynccontextmanager
    async def exchange(request: EngineRequest) -> AsyncIterator[EngineAnswer]:
        async def chunks() -> AsyncIterator[bytes]:
            for piece in PIECES:
                yield piece

        yield EngineAnswer(status, headers, chunks())

    return exchange


async def played(delay: TokenDelay, exchange=None, times=1):
    """Return the bytes of each of some answers, and every pause."""
    pauses: list[float] = []

    async def sleep(delay_s: float) -> None:
        pauses.append(delay_s)

    delayed, texts, asked = DelayedExchange(exchange or inner(), delay, sleep), [], request()
    for _ in range(times):
        asked = request()
        async with delayed(asked) as answer:
            texts.append(b"".join([chunk async for chunk in answer.chunks]))
    return texts, pauses, asked.visit


async def test_each_text_waits_and_everything_else_passes():
    (text,), pauses, visit = await played(TokenDelay(0.01, 0.05, seed=7))
    assert len(pauses) == 3
    assert all(0.01 <= pause <= 0.05 for pause in pauses)
    assert visit.total_delay_s == sum(pauses)
    report = REPORT.search(text)
    assert report is not None
    assert float(report[1]) == pytest.approx(sum(pauses), abs=1e-4)
    assert float(report[2]) <= float(report[3])
    assert text == b"".join(PIECES) + report[0]


async def test_a_seed_repeats_the_pauses():
    first, second, other = [await played(TokenDelay(0.0, 1.0, seed), times=2) for seed in (1, 1, 2)]
    assert first[1] == second[1]
    assert first[1] != other[1]
    assert len(set(first[1])) == 6


@pytest.mark.parametrize(("status", "headers"), [(500, EVENT_STREAM), (200, [(b"content-type", b"application/json")])])
async def test_what_is_no_stream_of_tokens_is_left_alone(status, headers):
    (text,), pauses, _ = await played(TokenDelay(1.0, 1.0), inner(status, headers))
    assert (text, pauses) == (b"".join(PIECES), [])


async def test_a_gateway_without_it_passes_the_engines_bytes():
    body = {"prompt": "abc", "n_predict": 4, "stream": True}
    async with engine() as fake:
        plain = await fake.direct("POST", "/completion", json=body)
        async with serving(FakeUpstream(fake.target)) as client:
            assert (await client.post("/completion", json=body)).content == plain.content


async def test_a_gateway_with_it_says_what_it_added():
    config = GatewayConfig(token_delay=TokenDelay(0.002, 0.004, seed=3))
    body = {"prompt": "abc", "n_predict": 4, "stream": True}
    async with engine() as fake:
        plain = await fake.direct("POST", "/completion", json=body)
        async with serving(FakeUpstream(fake.target), config) as client:
            slowed = await client.post("/completion", json=body)
            metrics = (await client.get("/metrics")).text
            streams = (await client.get("/performance/metrics")).json()["streams"]
    report = REPORT.search(slowed.content)
    assert report is not None
    assert slowed.content == plain.content + report[0]
    assert 4 * 0.002 <= float(report[1]) <= 4 * 0.004
    counted = re.search(r"^rpcw_token_delay_seconds_total (\S+)$", metrics, re.MULTILINE)
    assert counted is not None
    assert float(counted[1]) == pytest.approx(float(report[1]), abs=1e-4)
    assert streams["count"] == 1
    assert streams["total_delay"] == pytest.approx(float(report[1]), abs=1e-4)
    assert streams["ttft_avg"] < streams["ttft_with_delay_avg"]

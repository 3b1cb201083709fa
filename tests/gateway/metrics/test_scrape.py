"""``GET /metrics`` of a running gateway: what its clients did, and the engine's own figures."""

import asyncio
import json
import logging
from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from rpc_wrapper.gateway import GatewayConfig
from tests.gateway.serve import FakeUpstream, engine, serving, until

Values = Mapping[tuple[str, str], float]


async def scrape(client: httpx.AsyncClient) -> Values:
    """Return every sample by its name and its labels' values."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, ",".join(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def test_requests_are_counted_by_endpoint_and_outcome():
    async with engine() as fake, serving(FakeUpstream(fake.target)) as client:
        body = {"prompt": "abc", "n_predict": 5, "stream": True}
        await client.post("/completion", json=body)
        await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "abcd"}]})
        await client.get("/nothing/at/all?secret=1")
        await client.post("/completion", json={"prompt": "abc", "n_discard": -1})
        seen = await scrape(client)
    assert seen["rpcw_requests_total", "/completion,ok"] == 1
    assert seen["rpcw_requests_total", "/completion,client_error"] == 1
    assert seen["rpcw_requests_total", "/v1/chat/completions,ok"] == 1
    assert seen["rpcw_requests_total", "other,client_error"] == 1
    assert not [name for name in seen if "nothing" in str(name) or "secret" in str(name)]
    assert seen["rpcw_ttft_seconds_count", "/completion"] == 1
    assert seen["rpcw_itl_seconds_count", ""] >= 1
    assert seen["rpcw_request_duration_seconds_count", "/completion"] == 2
    assert seen["rpcw_queue_wait_seconds_count", ""] == 3
    assert seen["rpcw_generated_tokens_total", ""] == 5 + 8
    assert seen["rpcw_prompt_tokens_total", ""] == 4
    assert seen["llamacpp:tokens_predicted_total", ""] == 13
    assert not [name for name in seen if name[0].endswith("_created")]


async def test_the_engines_figures_are_gone_while_it_is():
    async with engine() as fake:
        upstream = FakeUpstream(fake.target)
        async with serving(upstream) as client:
            assert ("llamacpp:tokens_predicted_total", "") in await scrape(client)
            upstream.ready.clear()
            assert ("llamacpp:tokens_predicted_total", "") not in await scrape(client)
            upstream.ready.set()
            fake.process.kill()
            await fake.process.wait()
            seen = await scrape(client)
    assert ("llamacpp:tokens_predicted_total", "") not in seen
    assert seen["rpcw_process_resident_memory_bytes", "gateway"] > 0


async def test_the_queue_is_shown_while_it_stands():
    flags = ("--stall-after-tokens", "1", "--slots", "1")
    async with engine(*flags) as fake, serving(FakeUpstream(fake.target), GatewayConfig(slots=1)) as client:
        body = {"prompt": "a", "n_predict": 3, "stream": True}
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(client.post("/completion", json=body)) for _ in range(3)]
            await fake.ledger(seen=1)
            while (seen := await scrape(client))["rpcw_queue_length", "inference"] < 2:
                pass
            assert seen["rpcw_requests_running", "inference"] == 1
            await fake.release()
        assert all(task.result().status_code == 200 for task in running)
        assert (await scrape(client))["rpcw_queue_length", "inference"] == 0


async def test_a_client_that_leaves_is_counted_as_that():
    async with engine("--stall-after-tokens", "1") as fake, serving(FakeUpstream(fake.target)) as client:
        async with client.stream("POST", "/completion", json={"prompt": "a", "n_predict": 9, "stream": True}) as answer:
            await anext(answer.aiter_raw())
        await fake.ledger(cancelled=1)
        while ("rpcw_requests_total", "/completion,client_left") not in await scrape(client):
            pass


async def test_keys_guard_the_metrics():
    async with serving(FakeUpstream(), GatewayConfig(api_keys=("k",))) as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers={"authorization": "Bearer k"})).status_code == 200
        assert (await client.head("/metrics", headers={"authorization": "Bearer k"})).content == b""


async def test_every_piece_of_work_has_its_line_in_the_access_log(caplog):
    caplog.set_level(logging.INFO, "rpc_wrapper.access")
    async with engine() as fake, serving(FakeUpstream(fake.target)) as client:
        body = {"prompt": "abc", "n_predict": 5, "stream": True}
        await client.post("/completion", json=body, headers={"x-request-id": "r-17"})
        await client.get("/livez")
        await until(lambda: len(caplog.records) > 0)
    (record,) = caplog.records
    fields = record.__dict__["fields"]
    assert "r-17" in record.getMessage()
    assert (fields["request_id"], fields["endpoint"], fields["status"]) == ("r-17", "/completion", 200)
    assert fields["generated_tokens"] == 5
    assert fields["ttft_s"] >= 0
    assert json.dumps(fields)

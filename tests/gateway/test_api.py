"""The gateway's own endpoints."""

import time

import pytest

from rpc_wrapper.gateway import GatewayConfig, Target
from tests.gateway.serve import FakeUpstream, serving, until

READY = Target("http://127.0.0.1:1")


async def test_alive_whatever_the_engine_does():
    async with serving(FakeUpstream(ever_ready=False)) as client:
        response = await client.get("/livez")
    assert response.status_code == 200
    assert response.json() == {"status": "alive", "stalls": {"count": 0, "longest_s": 0.0, "within_s": 600.0}}


async def test_a_stall_of_the_event_loop_is_told_afterwards(caplog):
    async with serving(FakeUpstream()) as client:
        await client.get("/livez")  # it is up, and so is its watch
        time.sleep(1.8)  # noqa: ASYNC251 - the stall
        await until(lambda: "stood still" in caplog.text)
        stalls = (await client.get("/livez")).json()["stalls"]
    assert stalls["count"] == 1
    assert 1.5 < stalls["longest_s"] < 10
    assert "time.sleep(1.8)" in caplog.text, "the log shows where it hung"


async def test_ready_only_when_tokens_come_out():
    upstream = FakeUpstream(READY)
    async with serving(upstream) as client:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        upstream.ready.clear()
        response = await client.get("/readyz")
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json() == {
        "status": "not ready",
        "reason": "backend-cpu:50052 does not answer",
        "state": "loading",
        "progress": 0.25,
        "missing": ["backend-cpu:50052"],
    }


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
async def test_health_keeps_llama_servers_contract(path):
    upstream = FakeUpstream(READY)
    async with serving(upstream) as client:
        ok = await client.get(path)
        upstream.ready.clear()
        loading = await client.get(path)
    assert (ok.status_code, ok.json()) == (200, {"status": "ok"})
    assert loading.status_code == 503
    assert loading.json() == {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/cluster"])
async def test_head_where_there_is_get(path):
    async with serving(FakeUpstream(READY)) as client:
        got, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))


async def test_the_cluster_is_shown():
    async with serving(FakeUpstream(READY)) as client:
        assert (await client.get("/cluster")).json()["state"] == "ready"


async def test_keys_guard_what_is_not_public():
    config = GatewayConfig(api_keys=("k",), admin_keys=("root",))
    upstream = FakeUpstream(READY)
    async with serving(upstream, config) as client:
        for path in ("/livez", "/readyz", "/health", "/v1/health"):
            assert (await client.get(path)).status_code == 200
        denied = await client.get("/cluster")
        assert (await client.get("/cluster", headers={"x-api-key": "k"})).status_code == 200
        assert (await client.post("/completion", json={})).status_code == 401
        assert (await client.post("/cluster/restart", headers={"x-api-key": "k"})).status_code == 401
        assert (await client.post("/cluster/restart", headers={"x-api-key": "root"})).status_code == 202
    assert denied.status_code == 401
    assert denied.headers["www-authenticate"] == "Bearer"
    assert denied.json()["error"]["code"] == "invalid_api_key"

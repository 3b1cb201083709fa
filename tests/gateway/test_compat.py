"""docker-distributed-llm's status endpoints, with its field names."""

import httpx

from rpc_wrapper.gateway import GatewayConfig, Target, create_app
from rpc_wrapper.gateway.workers import AgentAccess, Workers
from tests.gateway.serve import FakeUpstream, running, serving
from tests.gateway.test_text_stream import NODES
from tests.gateway.test_workers import FakeAgent, report

READY = Target("http://127.0.0.1:1")
PLAN = {"assignments": [{"endpoint": name, "weights_bytes": 1, "kv_bytes": 1, "compute_bytes": 1} for name in
                        ("10.0.0.1:50052", "10.0.0.2:50052", None)]}  # fmt: skip


def upstream(*nodes, plan=None) -> FakeUpstream:
    fake = FakeUpstream(READY)
    fake.sections = {"nodes": list(nodes), "plan": plan}
    return fake


async def test_workers_status_lists_the_workers_then_the_backend():
    async with serving(upstream(*NODES)) as client:
        rows = (await client.get("/workers/status")).json()
    assert rows == [
        {"worker_id": 1, "status": "online", "is_available": True, "cpu_usage_percent": 50.0, "memory_usage_mb": 3.0},
        {"worker_id": 2, "status": "offline", "is_available": False, "cpu_usage_percent": 0.0, "memory_usage_mb": 0.0},
        {"worker_id": "backend", "status": "online", "is_available": True}
        | {"cpu_usage_percent": 120.0, "memory_usage_mb": 5.0},
    ]


async def test_a_load_that_is_not_known_yet_is_looked_at_twice():
    node = {"name": "server", "state": "up", "cpu_percent": None, "rss_bytes": 1}
    fake = upstream(node)
    async with serving(fake) as client:
        await client.get("/workers/status")
    assert fake.observed == 2


async def test_system_status_counts_the_nodes_that_hold_layers():
    idle = {"name": "10.0.0.3:50052", "state": "up", "cpu_percent": 0.0, "rss_bytes": 1}
    config = GatewayConfig(model="tiny.gguf")
    async with serving(upstream(*NODES, idle, plan=PLAN), config) as client:
        body = (await client.get("/system/status")).json()
    assert body == {
        "server_status": "running",
        "total_workers": 2,
        "available_workers": 1,
        "model_path": "tiny.gguf",
        "tokenizer_path": "tiny.gguf",
    }


async def test_system_status_before_the_engine_runs():
    fake = upstream()
    fake.ready.clear()
    async with serving(fake) as client:
        body = (await client.get("/system/status")).json()
    assert (body["server_status"], body["total_workers"]) == ("loading", 0)


async def test_workers_are_measured_and_restarted_through_their_agents():
    agent = FakeAgent()
    async with running(agent.app) as agent_url, httpx.AsyncClient(trust_env=False) as http:
        workers = Workers(AgentAccess(http, token="token"), lambda: [report(agent_url)])
        app = create_app(GatewayConfig(admin_keys=("root",)), upstream(*NODES), workers=workers)
        async with running(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
            measured = (await client.get("/performance/metrics")).json()
            refused = await client.post("/workers/restart")
            restarted = await client.post("/workers/restart", headers={"x-api-key": "root", "x-request-id": "r-3"})
    assert measured["system"]["total_workers"] == measured["system"]["active_workers"] == 1
    assert measured["system"]["timestamp"] > 0
    assert measured["worker_metrics"][0]["memory"] == {"rss_mb": 1.0}
    assert measured["streams"]["count"] == 0
    assert refused.status_code == 401
    assert (restarted.status_code, restarted.json()["status"]) == (200, "restarted")
    assert restarted.json()["workers"][0]["worker_id"] == 1
    assert agent.asked[-1]["x-request-id"] == "r-3"


async def test_a_restart_that_fails_says_so():
    async with running(FakeAgent().app) as agent_url, httpx.AsyncClient(trust_env=False) as http:
        workers = Workers(AgentAccess(http), lambda: [report(agent_url)])
        async with running(create_app(GatewayConfig(), upstream(), workers=workers)) as url:
            answer = await http.post(f"{url}/workers/restart")
    assert answer.status_code == 502
    assert answer.json()["workers"][0]["error"] == "this needs the agent's token"


async def test_restarting_is_control():
    async with serving(upstream()) as client:
        assert (await client.post("/workers/restart", headers={"host": "evil.example"})).status_code == 403
        assert (await client.post("/workers/restart")).status_code == 200

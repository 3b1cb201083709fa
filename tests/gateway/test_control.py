"""What an admin may do, over HTTP: every refusal is a sentence, and everything may be asked for twice."""

import asyncio

import pytest

from rpc_wrapper.gateway import GatewayConfig, Target
from tests.gateway.serve import FakeUpstream, engine, serving

READY = Target("http://127.0.0.1:1")
CHANGES = ["/cluster/restart", "/cluster/replan", "/cluster/backends", "/cluster/drain"]


async def test_restart_and_replan_are_passed_on():
    upstream = FakeUpstream(READY)
    async with serving(upstream) as client:
        for path, status in (("/cluster/restart", "restarting"), ("/cluster/replan", "replanning")):
            answer = await client.post(path)
            assert (answer.status_code, answer.json()) == (202, {"status": status})
    assert upstream.restarts == [
        "asked for by POST /cluster/restart",
        "a new plan was asked for by POST /cluster/replan",
    ]


@pytest.mark.parametrize("path", CHANGES)
async def test_only_an_admin_may(path):
    config = GatewayConfig(api_keys=("k",), admin_keys=("root",))
    async with serving(FakeUpstream(READY), config) as client:
        assert (await client.post(path)).status_code == 401
        assert (await client.post(path, headers={"x-api-key": "k"})).status_code == 401
        allowed = await client.post(path, headers={"x-api-key": "root"}, json={"add": "c:1"})
        assert allowed.status_code == 202
        assert (await client.delete("/cluster/drain", headers={"x-api-key": "k"})).status_code == 401
    async with serving(FakeUpstream(READY)) as client:
        assert (await client.post(path, headers={"host": "evil.example"})).status_code == 403


async def test_a_backend_is_added_and_removed_and_each_wish_may_be_repeated():
    async with serving(FakeUpstream(READY)) as client:
        answers = [
            await client.post("/cluster/backends", json={verb: backend})
            for verb, backend in (("add", "c:1"), ("add", "c:1"), ("remove", "a:1"))
        ]
    assert [answer.status_code for answer in answers] == [202, 200, 202]
    first, again, removed = (answer.json() for answer in answers)
    assert first == {
        "status": "added",
        "backend": "c:1",
        "listed": ["a:1", "b:1", "c:1"],
        "restarts_engine": True,
        "persisted": False,
        "note": "This lasts until this process ends: change APP_RPC_BACKENDS to keep it.",
    }
    assert (again["status"], again["restarts_engine"]) == ("unchanged", False)
    assert removed["listed"] == ["b:1", "c:1"]


async def test_what_cannot_be_is_refused_with_the_reason():
    async with serving(FakeUpstream(READY)) as client:
        answer = await client.post("/cluster/backends", json={"remove": "z:1"})
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "backend_refused"
    assert answer.json()["error"]["message"] == "z:1 is not among the backends."


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not JSON"),
        (b"nonsense", "not JSON"),
        (b"[]", "one thing to do"),
        (b"{}", "one thing to do"),
        (b'{"add": "c:1", "remove": "a:1"}', "one thing to do"),
        (b'{"swap": "c:1"}', "one thing to do"),
        (b'{"add": 7}', "takes an endpoint as text"),
        (b'{"add": "c"}', "c"),
        (b'{"add": "c:99999"}', "port 99999 is out of range"),
    ],
)
async def test_a_malformed_wish_is_answered_with_how_to_write_it(body, told):
    async with serving(FakeUpstream(READY)) as client:
        answer = await client.post("/cluster/backends", content=body)
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]


async def test_a_drained_gateway_finishes_what_it_has_and_takes_nothing_new():
    async with (
        engine("--stall-after-tokens", "1") as running,
        serving(FakeUpstream(running.target)) as client,
        asyncio.TaskGroup() as group,
    ):
        asking = group.create_task(client.post("/completion", json={"prompt": "a", "n_predict": 4}))
        await running.ledger(running=1)
        drained = await client.post("/cluster/drain")
        assert (drained.status_code, drained.json()) == (202, {"status": "draining", "running": 1, "waiting": 0})
        refused = await client.post("/completion", json={"prompt": "a"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert "drained" in refused.json()["error"]["message"]
        unready = await client.get("/readyz")
        assert (unready.status_code, unready.json()["reason"][:20]) == (503, "it is being drained:")
        assert (await client.get("/livez")).status_code == 200
        await running.release()
        assert (await asking).status_code == 200
        assert (await client.post("/cluster/drain")).json()["status"] == "drained"
        assert (await client.delete("/cluster/drain")).json()["status"] == "open"
        assert (await client.get("/readyz")).status_code == 200

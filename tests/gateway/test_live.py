"""``/cluster/events`` over real sockets: a snapshot, changes, resuming, and no work for nobody."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from rpc_wrapper.gateway import GatewayConfig, Target, create_app, live
from tests.gateway.serve import DEADLINE_S, FakeUpstream, running, serving, until

READY = Target("http://127.0.0.1:1")


class Watcher:
    """One client of the stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, str, Any]:
        """Return the next event: id, name, value."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE_S):
            async for line in self._lines:
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    return fields["id"], fields["event"], json.loads(fields["data"])
        raise AssertionError("the stream ended")


@asynccontextmanager
async def watching(client: httpx.AsyncClient, seen: str | None = None) -> AsyncIterator[Watcher]:
    headers = {"last-event-id": seen} if seen else {}
    async with client.stream("GET", "/cluster/events", headers=headers) as response:
        yield Watcher(response)


async def test_a_snapshot_first_then_changes_as_they_happen():
    upstream = FakeUpstream(READY)
    async with serving(upstream) as client, watching(client) as watcher:
        assert watcher.response.headers["content-type"].startswith("text/event-stream")
        _, name, value = await watcher.next()
        assert (name, value["state"]) == ("snapshot", "ready")
        upstream.change(state="fencing", reason="10.0.0.2:50052 closed the connection")
        _, name, value = await watcher.next()
        assert (name, value) == ("change", {"state": "fencing", "reason": "10.0.0.2:50052 closed the connection"})


async def test_a_watcher_goes_on_where_it_was_cut():
    upstream = FakeUpstream(READY)
    async with serving(upstream) as client:
        async with watching(client) as watcher:
            first, _, _ = await watcher.next()
        upstream.change(progress="loading tensors")
        async with watching(client, first) as watcher:
            _, name, value = await watcher.next()
    assert (name, value) == ("change", {"progress": "loading tensors"})


async def test_many_watchers_see_the_same():
    upstream = FakeUpstream(READY)
    async with serving(upstream) as client, watching(client) as one, watching(client) as other:
        await one.next(), await other.next()
        upstream.change(restarts=1)
        assert await one.next() == await other.next()


async def test_machines_are_asked_only_while_somebody_watches():
    upstream = FakeUpstream(READY)
    async with serving(upstream) as client:
        await client.get("/cluster")
        assert upstream.observed == 0
        async with watching(client) as watcher:
            await watcher.next()
            await until(lambda: upstream.observed >= 2)


async def test_a_line_without_news_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "PING_S", 0.05)
    async with serving(FakeUpstream(READY)) as client, watching(client) as watcher:
        async for line in watcher.response.aiter_lines():
            if line.startswith(":"):
                return
    raise AssertionError("the stream ended")


async def test_there_is_a_last_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "MAX_WATCHERS", 1)
    async with serving(FakeUpstream(READY)) as client, watching(client) as watcher:
        await watcher.next()
        refused = await client.get("/cluster/events")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_watchers")
    assert "1 clients watch" in refused.json()["error"]["message"]


async def test_keys_guard_the_stream():
    async with serving(FakeUpstream(READY), GatewayConfig(api_keys=("k",))) as client:
        assert (await client.get("/cluster/events")).status_code == 401
        async with client.stream("GET", "/cluster/events", headers={"authorization": "Bearer k"}) as response:
            assert response.status_code == 200


async def test_a_drained_server_ends_its_streams():
    app = create_app(GatewayConfig(), FakeUpstream(READY))
    async with running(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client, watching(client) as one:
        await one.next()
        assert await app.state.gateway.drain(1.0)
        with pytest.raises(AssertionError, match="the stream ended"):
            await one.next()
        assert (await client.get("/cluster/events")).status_code == 503

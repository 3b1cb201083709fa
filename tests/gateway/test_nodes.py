"""Asking the machines: real agents over real sockets, this process itself, and once for all who ask together."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.gateway.backends import BackendReport, Scout
from rpc_wrapper.gateway.nodes import Nodes
from rpc_wrapper.rpc import ProbeResult, ProbeState
from rpc_wrapper.rpc.agent import AgentStatus
from rpc_wrapper.usage import GPU
from tests.gateway.serve import running


class FakeAgent:
    """An agent that says what a test wants it to say."""

    def __init__(self) -> None:
        self.asked = 0
        self.body: dict[str, Any] = {"state": "ready", "cpu_s": 1.0, "rss_bytes": 4096, "restarts": 2}
        self.app = FastAPI()
        self.app.add_api_route("/status", self.status)

    async def status(self) -> dict[str, Any]:
        self.asked += 1
        return self.body


@asynccontextmanager
async def observed(agent: FakeAgent) -> AsyncIterator[tuple[Nodes, BackendReport]]:
    """Yield nodes over one backend whose agent runs."""
    async with running(agent.app) as url, httpx.AsyncClient(trust_env=False) as http:
        port = int(url.rsplit(":", 1)[1])
        place = Endpoint("127.0.0.1", port - 1)
        yield Nodes(Scout(http)), BackendReport(place, place, ProbeResult(place, ProbeState.OK), AgentStatus("ready"))


async def test_every_machine_has_a_row_with_its_load():
    agent = FakeAgent()
    async with observed(agent) as (nodes, report):
        assert nodes.to_json() == []
        await nodes.observe([report], frozenset(), os.getpid())
        await asyncio.sleep(0.1)
        agent.body["cpu_s"] = 1.5
        await nodes.observe([report], frozenset(), os.getpid())
    server, backend = nodes.to_json()
    assert (server["name"], server["state"]) == ("server", "up")
    assert server["rss_bytes"] > 1_000_000
    assert (backend["name"], backend["state"], backend["restarts"]) == (str(report.endpoint), "up", 2)
    assert (backend["cpu_s"], backend["rss_bytes"]) == (1.5, 4096)
    assert 0 < backend["cpu_percent"] <= 500


async def test_the_gpus_of_a_machine_are_its_agents_word():
    agent, gpu = FakeAgent(), GPU(0, "GTX 1080", 1 << 30, 8 << 30, 0.5)
    agent.body["gpus"] = [gpu.to_json()]
    async with observed(agent) as (nodes, report):
        await nodes.observe([report], frozenset(), None)
    assert [node["gpus"] for node in nodes.to_json()] == [[], [gpu.to_json()]]


async def test_who_asks_together_asks_once():
    agent = FakeAgent()
    async with observed(agent) as (nodes, report):
        await asyncio.gather(*(nodes.observe([report], frozenset(), None) for _ in range(5)))
    assert agent.asked == 1


async def test_an_agent_that_is_gone_makes_its_backend_silent_or_down():
    async with observed(FakeAgent()) as (nodes, report):
        pass
    async with httpx.AsyncClient(trust_env=False) as http:
        nodes = Nodes(Scout(http))
        await nodes.observe([report], frozenset({report.endpoint}), None)
        assert nodes.to_json()[1]["state"] == "silent"
        nodes = Nodes(Scout(http))
        await nodes.observe([report], frozenset(), None)
        assert nodes.to_json()[1]["state"] == "down"

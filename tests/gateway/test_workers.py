"""Asking agents about their workers, and having them start these again."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.gateway.backends import BackendReport
from rpc_wrapper.gateway.workers import AgentAccess, Workers
from rpc_wrapper.rpc import ProbeResult, ProbeState
from tests.gateway.serve import running


class FakeAgent:
    """An agent that answers as it is told, and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.may_restart = asyncio.Event()
        self.may_restart.set()
        self.app = FastAPI()
        self.app.add_api_route("/metrics", self.metrics, methods=["GET"])
        self.app.add_api_route("/restart", self.restart, methods=["POST"], response_model=None)

    async def metrics(self, request: Request) -> JSONResponse:
        self.asked.append(dict(request.headers))
        return JSONResponse({"worker_id": "box:1", "status": "online", "memory": {"rss_mb": 1.0}})

    async def restart(self, request: Request) -> JSONResponse:
        self.asked.append(dict(request.headers))
        await self.may_restart.wait()
        if request.headers.get("authorization") != "Bearer token":
            return JSONResponse({"error": "this needs the agent's token"}, 401)
        return JSONResponse({"status": "restarted", "worker_id": "box:1"})


def report(url: str) -> BackendReport:
    port = httpx.URL(url).port
    assert port is not None
    endpoint = Endpoint("127.0.0.1", 50052, agent_port=port)
    return BackendReport(endpoint, endpoint, ProbeResult(endpoint, ProbeState.OK))


@asynccontextmanager
async def workers(*apps: FastAPI, token: str | None = "token"):
    async with AsyncExitStack() as stack:
        reports = [report(await stack.enter_async_context(running(app))) for app in apps]
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        yield Workers(AgentAccess(http, token=token), lambda: reports)


async def test_figures_are_numbered_in_order():
    one, two = FakeAgent(), FakeAgent()
    async with workers(one.app, two.app) as all_workers:
        figures = await all_workers.figures()
    assert [(each["worker_id"], each["status"], each["memory"]["rss_mb"]) for each in figures] == [
        (1, "online", 1.0),
        (2, "online", 1.0),
    ]
    assert one.asked[0]["accept"] == "application/json"
    assert "authorization" not in one.asked[0]


async def test_an_agent_that_is_none_is_named():
    stranger = FastAPI()

    @stranger.get("/metrics")
    async def page() -> PlainTextResponse:
        return PlainTextResponse("<html>")

    async with workers(stranger) as all_workers:
        (figures,) = await all_workers.figures()
    assert figures["status"] == "error"
    assert "is no agent" in figures["error"]


async def test_an_agent_that_is_gone_is_named():
    async with running(FastAPI()) as url:
        gone = report(url)
    async with httpx.AsyncClient(trust_env=False) as http:
        (figures,) = await Workers(AgentAccess(http), lambda: [gone]).figures()
    assert "does not answer" in figures["error"]
    assert figures["endpoint"] == "127.0.0.1:50052"


async def test_a_restart_carries_token_and_request_id():
    agent = FakeAgent()
    async with workers(agent.app) as all_workers:
        (done,) = await all_workers.restart("r-9")
    assert (done["status"], done["worker_id"]) == ("restarted", 1)
    assert agent.asked[0]["x-request-id"] == "r-9"


async def test_a_refused_restart_says_why():
    async with workers(FakeAgent().app, token=None) as all_workers:
        (done,) = await all_workers.restart("r")
    assert (done["status"], done["error"]) == ("error", "this needs the agent's token")


async def test_who_asks_meanwhile_shares_the_restart():
    agent = FakeAgent()
    agent.may_restart.clear()
    async with workers(agent.app) as all_workers, asyncio.TaskGroup() as group:
        tasks = [group.create_task(all_workers.restart(str(n))) for n in range(5)]
        async with asyncio.timeout(10):
            while not agent.asked:  # noqa: ASYNC110 - the fake tells nobody
                await asyncio.sleep(0.005)
        agent.may_restart.set()
        answers = [await task for task in tasks]
        assert len(agent.asked) == 1
        assert all(answer == answers[0] for answer in answers)
        await all_workers.restart("later")
        assert len(agent.asked) == 2

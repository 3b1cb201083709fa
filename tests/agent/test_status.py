"""Whom a backend serves, as its agent tells whoever asks: real sockets, a fake worker behind a real gate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from rpc_wrapper.agent.app import Agent, create_app
from rpc_wrapper.agent.keeper import Keeper
from rpc_wrapper.agent.worker import Worker, WorkerConfig
from rpc_wrapper.cli.reach import backend_findings
from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.engine.checkup import Verdict
from rpc_wrapper.gateway.backends import Scout
from rpc_wrapper.gateway.muster import Muster
from rpc_wrapper.gateway.roll_call import Patience
from rpc_wrapper.link.gate import Gate, GateOptions
from rpc_wrapper.rpc.commands import Command
from rpc_wrapper.rpc.messages import HelloRequest
from rpc_wrapper.supervisor import PermanentFailure, Runner
from tests.fakes import rpc_server
from tests.gateway import serve
from tests.link.wire import DEADLINE_S, Client

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"


@asynccontextmanager
async def backend() -> AsyncIterator[Endpoint]:
    """Run a gate with its agent; a lease is over as soon as its holder leaves."""
    unused: Any = None
    async with rpc_server.running(rpc_server.Options(busy=True)) as (place, _):
        gate = Gate(place, GateOptions(host=HERE, lease_s=0.0))
        worker = Worker(WorkerConfig(engine=unused, options=unused, environ={}, budget_bytes=64 * MIB), gate)
        agent = Agent(Keeper(Runner("worker", worker)), worker, gate, worker_id="w", budget_bytes=64 * MIB)
        address = await gate.start()
        await gate.refresh(DEADLINE_S)
        async with serve.running(create_app(agent)) as url:
            yield Endpoint(HERE, address.port, agent_port=int(url.rsplit(":", 1)[1]))


@asynccontextmanager
async def llama_server(host: str, place: Endpoint) -> AsyncIterator[None]:
    """Use a backend from an address of this machine."""
    reader, writer = await asyncio.open_connection(place.host, place.port, local_addr=(host, 0))
    engine = Client(reader, writer)
    await engine.ask(Command.HELLO, HelloRequest().pack())
    await engine.ask(Command.GET_ALIGNMENT, bytes(4))
    yield
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def muster(place: Endpoint, patience: Patience) -> AsyncIterator[Muster]:
    async with httpx.AsyncClient(trust_env=False) as http:
        yield Muster([place], Scout(http), patience, probes=3)


@pytest.mark.parametrize(("holder", "is_usable"), [(HERE, True), (ELSEWHERE, False)])
async def test_a_backend_that_another_holds_is_not_usable_but_our_own_lease_does_not_count(holder, is_usable):
    async with backend() as place, muster(place, Patience()) as everybody:
        async with llama_server(holder, place):
            await everybody.survey()
        (report,) = everybody.reports
    assert (report.agent is not None and report.agent.holder) == holder
    assert (report.is_usable, report.answers) == (is_usable, True)


async def test_a_first_start_waits_for_who_serves_another_and_blames_nobody():
    async with backend() as place, muster(place, Patience(wait_s=60)) as everybody, asyncio.timeout(DEADLINE_S):
        said: asyncio.Queue[str] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            async with llama_server(ELSEWHERE, place):
                start = group.create_task(everybody.gather((), said.put_nowait, None))
                first = await said.get()
            roll = await start
    assert f"{place} is busy: it serves another llama-server at {ELSEWHERE}" in first
    assert [report.confinement for report in roll.usable] == [None]


async def test_a_first_start_gives_up_on_who_goes_on_serving_another():
    async with backend() as place, muster(place, Patience(wait_s=0.2)) as everybody, llama_server(ELSEWHERE, place):
        with pytest.raises(PermanentFailure, match=r"serves another llama-server at .*; 1 are needed"):
            await everybody.gather((), lambda text: None, None)


async def test_the_doctor_notices_it_and_says_whom_it_serves():
    async with backend() as place, llama_server(ELSEWHERE, place):
        (found,) = await backend_findings(f"{place}+agent={place.agent}", None)
    assert (found.value, found.verdict) == ("busy", Verdict.NOTICE)
    assert found.advice == f"it serves another llama-server at {ELSEWHERE}."

"""A connection that was cut is looked into at once: was it the engine's end, or only that connection's?"""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from rpc_wrapper.gateway import Target
from rpc_wrapper.gateway.cluster import EXIT_NOTICE_S, Cluster
from rpc_wrapper.supervisor import Fault, FaultKind, State
from tests.gateway.serve import engine

NOBODY = Target("http://127.0.0.1:1", "key")


class FakeRunner:
    """A life cycle that leaves READY when it hears of a fault, as the real one does, or when the test says so."""

    def __init__(self) -> None:
        self.state = State.READY
        self.faults: list[Fault] = []
        self._bell = asyncio.Event()

    def snapshot(self) -> Any:
        return SimpleNamespace(state=self.state)

    def report_fault(self, fault: Fault) -> None:
        self.faults.append(fault)
        self.leave()

    def leave(self) -> None:
        self.state = State.FENCING
        self._bell.set()

    async def changed(self) -> None:
        await self._bell.wait()


def cluster_over(target: Target) -> tuple[Cluster, FakeRunner]:
    runner: Any = FakeRunner()
    start = SimpleNamespace(base_url=target.base_url, api_key=target.api_key)
    server: Any = SimpleNamespace(start=start, scout=None)
    config: Any = SimpleNamespace(local_devices=())
    return Cluster(config, server, runner), runner


async def test_an_engine_that_still_answers_has_lost_a_connection_only():
    async with engine() as running:
        cluster, runner = cluster_over(running.target)
        await cluster.lost(running.target)
    assert (runner.state, runner.faults) == (State.READY, [])


async def test_an_engine_that_takes_no_connection_is_at_fault():
    cluster, runner = cluster_over(NOBODY)
    await cluster.lost(NOBODY)
    assert [(fault.kind, fault.detected_after_s) for fault in runner.faults] == [(FaultKind.CONNECTION, EXIT_NOTICE_S)]
    assert runner.state is State.FENCING


async def test_an_exit_that_is_noticed_meanwhile_tells_more():
    cluster, runner = cluster_over(NOBODY)
    asyncio.get_running_loop().call_later(0.1, runner.leave)
    await cluster.lost(NOBODY)
    assert runner.faults == []


@pytest.mark.parametrize("is_ready", [True, False])
async def test_the_end_of_another_engine_is_old_news(is_ready):
    cluster, runner = cluster_over(Target(NOBODY.base_url, "a newer key" if is_ready else NOBODY.api_key))
    if not is_ready:
        runner.leave()
    await cluster.lost(NOBODY)
    assert runner.faults == []


async def test_all_streams_of_one_engine_cost_one_look():
    cluster, runner = cluster_over(NOBODY)
    await asyncio.gather(*(cluster.lost(NOBODY) for _ in range(8)))
    assert len(runner.faults) == 1

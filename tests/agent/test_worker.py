"""A worker that answers nobody is found by its own agent; why one died is told without guessing."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from rpc_wrapper.agent import worker as worker_module
from rpc_wrapper.agent.worker import Worker, WorkerConfig
from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.engine.oom import OomKills
from rpc_wrapper.link.gate import Gate, GateOptions
from rpc_wrapper.rpc import ProbeState, probe
from rpc_wrapper.rpc.commands import REQUEST_HEADER, Command
from rpc_wrapper.rpc.messages import HelloRequest
from rpc_wrapper.supervisor import FaultKind, Launch

LAUNCH = Launch(("worker",), {})
DEADLINE_S = 20.0


@dataclass
class Running:
    """A fake worker in a process of its own, behind a gate."""

    worker: Worker
    gate: Gate
    process: asyncio.subprocess.Process


@asynccontextmanager
async def running(*flags: str) -> AsyncIterator[Running]:
    argv = [sys.executable, "-m", "tests.fakes.rpc_server", *flags]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            port = int((await process.stdout.readline()).decode().rsplit(":", 1)[1])
        gate = Gate(Endpoint("127.0.0.1", port), GateOptions(host="127.0.0.1", port=0, budget_bytes=64 * MIB))
        worker = Worker(worker_config(), gate)
        async with gate:
            await gate.refresh()
            yield Running(worker, gate, process)
    finally:
        process.kill()
        await process.communicate()


def worker_config() -> WorkerConfig:
    unused: Any = None
    return WorkerConfig(engine=unused, options=unused, environ={}, budget_bytes=1024 * MIB)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LOOK_S", 0.05)
    monkeypatch.setattr(worker_module, "IDLE_HELLO_S", 0.2)
    monkeypatch.setattr(worker_module, "STOPPED_S", 0.3)


async def test_a_stopped_worker_that_nobody_uses_is_at_fault_and_its_gate_closes():
    async with running() as stage, asyncio.timeout(DEADLINE_S):
        address = await stage.gate.start()
        stage.process.send_signal(signal.SIGSTOP)
        child: Any = stage.process
        fault = await stage.worker.watch(LAUNCH, child)
        assert (fault.kind, fault.deadline_s) == (FaultKind.SILENCE, 0.3)
        assert "stopped" in fault.text
        assert (await probe(address, timeout_s=2)).state is ProbeState.DOWN


async def test_a_worker_that_answers_is_left_alone():
    async with running() as stage:
        child: Any = stage.process
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await stage.worker.watch(LAUNCH, child)


async def test_a_worker_in_use_is_judged_by_its_user():
    async with running() as stage:
        address = await stage.gate.start()
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(HelloRequest().frame())
        await reader.readexactly(36)
        # asking for an alignment needs the worker itself, so we are inside from here on
        writer.write(REQUEST_HEADER.pack(Command.GET_ALIGNMENT, 4) + bytes(4))
        await reader.readexactly(16)
        stage.process.send_signal(signal.SIGSTOP)
        child: Any = stage.process
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await stage.worker.watch(LAUNCH, child)
        writer.close()
        async with asyncio.timeout(DEADLINE_S):
            assert (await stage.worker.watch(LAUNCH, child)).kind is FaultKind.SILENCE


@pytest.mark.parametrize(
    ("kills", "failure", "advice"),
    [
        (OomKills(0, 512 * MIB), "killed_from_outside", "The kernel reports no lack of memory"),
        (
            OomKills(1, 512 * MIB),
            "out_of_memory",
            "it ran out of memory at the limit of 512 MiB on this container or service; it lends APP_MEM=1024: "
            "lower that, or allow 1280 MiB and more.",
        ),
        (OomKills(1), "out_of_memory", "the machine ran out of memory; it lends APP_MEM=1024"),
    ],
)
async def test_memory_is_blamed_only_on_evidence(
    monkeypatch: pytest.MonkeyPatch, kills: OomKills, failure: str, advice: str
):
    monkeypatch.setattr(worker_module, "read_oom_kills", lambda: OomKills(0, kills.limit_bytes))
    worker = Worker(worker_config(), Gate(Endpoint("127.0.0.1", 1), GateOptions(host="127.0.0.1", port=0)))
    monkeypatch.setattr(worker_module, "read_oom_kills", lambda: kills)
    diagnosis = worker.classify([], -9)
    assert diagnosis.failure == failure
    assert diagnosis.advice.startswith(advice)

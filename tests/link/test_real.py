"""Links and gates between the real programs: the same text comes out, and what breaks is told."""

import asyncio
import contextlib
import importlib.util
import random
import signal
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest

from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.link import Deadlines, Gate, GateOptions, Link, LinkOptions, Lost, Network, Refused, Silence
from rpc_wrapper.link.fnv import fnv1a
from rpc_wrapper.rpc import ProbeState, probe
from rpc_wrapper.rpc.commands import Command
from rpc_wrapper.rpc.messages import AllocBufferReply, AllocBufferRequest
from tests.engine.test_cache import SIZE, backend, push, tensor
from tests.engine.test_links import free_pair
from tests.link.test_gate import throw_garbage
from tests.link.wire import Events, client

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_factories=["uvloop"])]

MODEL = Path(__file__).parents[2] / "models" / "demo.gguf"
START_S = 60.0
REQUEST = {"prompt": "Once upon a time", "n_predict": 48, "temperature": 0.0, "cache_prompt": False}
Process = asyncio.subprocess.Process


def program(name: str) -> Path:
    spec = importlib.util.find_spec("llama_cpp")
    path = Path(spec.origin).parent / "bin" / name if spec and spec.origin else Path(name)
    for file in (path, MODEL):
        assert file.exists(), f"{file} is missing: the engine or the model that ships with the project"
    return path


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.asynccontextmanager
async def child(name: str, *args: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        program(name),
        *args,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        restore_signals=False,  # as the supervisor starts a worker
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def worker() -> AsyncIterator[tuple[Endpoint, Process]]:
    endpoint = Endpoint("127.0.0.1", free_port())
    async with child("ggml-rpc-server", "-p", str(endpoint.port), "-t", "1") as process:
        async with asyncio.timeout(START_S):
            while (await probe(endpoint, timeout_s=5)).state is not ProbeState.OK:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        yield endpoint, process


@contextlib.asynccontextmanager
async def server(endpoints: Sequence[Endpoint]) -> AsyncIterator[tuple[httpx.AsyncClient, Process]]:
    """Run llama-server over the endpoints; yield it as soon as it runs, ready or not."""
    port = free_port()
    devices = [f"RPC{index}" for index in range(len(endpoints))]
    args = ["-m", str(MODEL), "--host", "127.0.0.1", "--port", str(port), "-fit", "off", "-ngl", "99", "-c", "512"]
    args += ["--rpc", ",".join(map(str, endpoints)), "--device", ",".join(devices)]
    args += ["--tensor-split", ",".join("1" for _ in devices), "-t", "1", "-np", "1"]
    async with (
        child("llama-server", *args) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=START_S) as client,
    ):
        yield client, process


async def until_ready(client: httpx.AsyncClient, process: Process) -> None:
    async with asyncio.timeout(START_S):
        while process.returncode is None:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/health")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    raise AssertionError(f"llama-server ended with {process.returncode}")


async def text(client: httpx.AsyncClient) -> str:
    answer = await client.post("/completion", json=REQUEST)
    return str(answer.raise_for_status().json()["content"])


async def generated_over(endpoints: Sequence[Endpoint]) -> str:
    async with server(endpoints) as (client, process):
        await until_ready(client, process)
        return await text(client)


async def test_text_through_links_and_a_gate_equals_text_without():
    async with worker() as (first, _), worker() as (second, _):
        direct = await generated_over([first, second])
        assert len(direct) > 40
        async with Link(first) as link, Gate(second, GateOptions(budget_bytes=256 * MIB)) as gate:
            await gate.refresh()
            behind_gate = await gate.start()
            async with Link(behind_gate) as other:
                assert await generated_over([link.address, other.address]) == direct
                figures = link.snapshot()
        assert gate.snapshot().refusals == {}
    assert figures.weights_pushed_bytes > MIB
    assert figures.stages > 40
    assert figures.commands["GET_TENSOR"].count >= 40
    assert figures.rtt_s is not None


async def test_a_killed_worker_is_a_loss_and_ends_the_engine():
    events = Events()
    async with (
        worker() as (endpoint, process),
        Link(endpoint, on_event=events.tell) as link,
        server([link.address]) as (client, engine),
    ):
        await until_ready(client, engine)
        assert link.snapshot().allocated_bytes[0] > MIB
        process.kill()
        assert (await events.first(Lost)).endpoint == endpoint
        assert await _fails(client)
        async with asyncio.timeout(START_S):
            assert await engine.wait() != 0


async def _fails(client: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        await text(client)
        return False
    return True


async def test_a_frozen_worker_is_a_silence():
    events = Events()
    options = LinkOptions(deadlines=Deadlines(graph_s=0.5, reply_s=0.5))
    async with (
        worker() as (endpoint, process),
        Link(endpoint, options, events.tell) as link,
        server([link.address]) as (client, engine),
    ):
        await until_ready(client, engine)
        await text(client)
        assert events == []
        process.send_signal(signal.SIGSTOP)
        with contextlib.suppress(httpx.HTTPError):
            async with asyncio.TaskGroup() as group:
                request = group.create_task(_fails(client))
                silence = await events.first(Silence)
                engine.kill()
                await request
        assert silence.endpoint == endpoint


async def test_a_model_beyond_the_budget_is_refused_and_told():
    events = Events()
    async with worker() as (endpoint, _):
        capped = Endpoint(endpoint.host, endpoint.port, budget_bytes=MIB)
        async with Link(capped, on_event=events.tell) as link, server([link.address]) as (_, engine):
            async with asyncio.timeout(START_S):
                assert await engine.wait() != 0
            assert (await events.first(Refused)).size_bytes > MIB
        assert (await probe(endpoint, timeout_s=5)).state is ProbeState.OK


async def test_garbage_at_the_gate_does_not_change_a_token():
    chance = random.Random(1)
    async with worker() as (endpoint, _), Gate(endpoint, GateOptions(hello_timeout_s=0.1)) as gate:
        await gate.refresh()
        address = await gate.start()
        async with server([address]) as (client, engine):
            await until_ready(client, engine)
            undisturbed = await text(client)
            async with asyncio.TaskGroup() as flood:
                request = flood.create_task(text(client))
                for _ in range(200):
                    flood.create_task(throw_garbage(address, chance))
            assert await request == undisturbed


async def test_simulated_latency_costs_one_round_trip_per_token():
    options = LinkOptions(network=Network(0.01, 0.01))
    async with (
        worker() as (endpoint, _),
        Link(endpoint, options) as link,
        server([link.address]) as (client, engine),
    ):
        await until_ready(client, engine)
        answer = await client.post("/completion", json=REQUEST)
        rtt_s = link.snapshot().rtt_s
    assert answer.json()["timings"]["predicted_per_token_ms"] >= 19.5
    assert rtt_s is not None
    assert rtt_s >= 0.0195


async def test_a_tensor_that_a_full_disk_cut_short_is_sent_again_and_not_believed(tmp_path):
    """The worker lives on, so nobody looks through its cache between the two servers."""
    data = random.Random(3).randbytes(SIZE)
    port = free_pair()
    file = tmp_path / "tensors" / str(port) / "rpc" / f"{fnv1a(data):016x}"
    with backend(tmp_path, port) as running:
        await push(port, data)
        assert await has_cached(port, data)
        with file.open("r+b") as cut:
            cut.truncate(SIZE - 4096)
        assert not await has_cached(port, data)
        assert f"{file.name} was cut short and is sent again" in running.text()
        await push(port, data)
        assert await has_cached(port, data)


async def has_cached(port: int, data: bytes) -> bool:
    """Ask as llama-server does before it sends a tensor."""
    async with client(Endpoint("127.0.0.1", port)) as engine:
        request = AllocBufferRequest(0, len(data)).pack()
        pointer = AllocBufferReply.unpack(await engine.ask(Command.ALLOC_BUFFER, request)).remote_ptr
        (base,) = struct.unpack("<Q", await engine.ask(Command.BUFFER_GET_BASE, struct.pack("<Q", pointer)))
        hashed = tensor(pointer, base, len(data) // 4) + struct.pack("<QQ", 0, fnv1a(data))
        return await engine.ask(Command.SET_TENSOR_HASH, hashed) == b"\1"

"""The link between a client and a fake worker, over real sockets."""

import asyncio
import contextlib
import os
import signal
import socket
import sys

import pytest

from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.errors import ConnectError
from rpc_wrapper.link import sockets
from rpc_wrapper.link.deadline import Deadlines
from rpc_wrapper.link.delay import Network
from rpc_wrapper.link.events import Lost, Refused, Silence
from rpc_wrapper.link.relay import Link, LinkOptions
from rpc_wrapper.rpc import ProbeState, probe
from rpc_wrapper.rpc.commands import REPLY_HEADER, Command
from rpc_wrapper.rpc.messages import AllocBufferReply, AllocBufferRequest
from tests.fakes.rpc_server import Options, running
from tests.link.wire import DEADLINE_S, Events, client, wait_until


async def test_a_probe_sees_the_worker_through_the_link():
    async with running(Options(devices=((10, 20), (30, 40)))) as (endpoint, _), Link(endpoint) as link:
        result = await probe(link.address, timeout_s=DEADLINE_S)
        assert result.state is ProbeState.OK
        assert [(device.free_bytes, device.total_bytes) for device in result.devices] == [(10, 20), (30, 40)]
        assert link.snapshot().rtt_s is not None


async def test_a_budget_shows_in_the_memory_and_refuses_a_buffer():
    events = Events()
    async with running() as (endpoint, worker):
        capped = Endpoint(endpoint.host, endpoint.port, budget_bytes=100 * MIB)
        async with Link(capped, on_event=events.tell) as link, client(link.address) as engine:
            result = await engine.ask(Command.GET_DEVICE_MEMORY, bytes(4))
            assert result == (100 * MIB).to_bytes(8, "little") * 2
            reply = await engine.ask(Command.ALLOC_BUFFER, AllocBufferRequest(0, 101 * MIB).pack())
            assert AllocBufferReply.unpack(reply).is_refused
            assert worker.buffers.held == {}
            reply = await engine.ask(Command.ALLOC_BUFFER, AllocBufferRequest(0, 99 * MIB).pack())
            assert not AllocBufferReply.unpack(reply).is_refused
            assert link.snapshot().allocated_bytes == {0: 99 * MIB}
        assert (await events.first(Refused)).size_bytes == 101 * MIB
        await wait_until(lambda: link.snapshot().allocated_bytes == {})


async def test_payloads_arrive_whole_whatever_their_size():
    async with running() as (endpoint, _), Link(endpoint) as link, client(link.address) as engine:
        await engine.ask(Command.ALLOC_BUFFER, AllocBufferRequest(0, 40 * MIB).pack())
        engine.tell(Command.SET_TENSOR, bytes(30 * MIB))
        wanted = (20 * MIB).to_bytes(8, "little")
        assert await engine.ask(Command.GET_TENSOR, bytes(304) + wanted) == bytes(20 * MIB)
        snapshot = link.snapshot()
        assert snapshot.bytes_to_backend > 30 * MIB
        assert snapshot.bytes_from_backend > 20 * MIB


async def test_the_end_of_the_engine_is_passed_on_and_is_no_loss():
    events = Events()
    async with running(Options(exit_after=1)) as (endpoint, worker), Link(endpoint, on_event=events.tell) as link:
        async with client(link.address):
            assert link.snapshot().connections == 1
        async with asyncio.timeout(DEADLINE_S):
            await worker.finished.wait()
        await wait_until(lambda: link.snapshot().connections == 0)
        assert events == []


async def test_a_half_closed_engine_still_gets_its_answer():
    async with running() as (endpoint, _), Link(endpoint) as link, client(link.address) as engine:
        engine.tell(Command.DEVICE_COUNT)
        engine.writer.write_eof()
        assert await engine.end() == REPLY_HEADER.pack(4) + (1).to_bytes(4, "little")


async def test_a_backend_that_hangs_up_takes_the_engine_s_side_with_it():
    events = Events()
    async with (
        running(Options(close_after_hello=True)) as (endpoint, _),
        Link(endpoint, on_event=events.tell) as link,
        client(link.address) as engine,
    ):
        assert await engine.end() == b""
        lost = await events.first(Lost)
        assert lost.endpoint == endpoint
        assert "closed the connection" in lost.reason


async def test_nobody_there_is_a_loss_that_says_so():
    events = Events()
    free = socket.create_server(("127.0.0.1", 0))
    endpoint = Endpoint("127.0.0.1", free.getsockname()[1])
    free.close()
    async with Link(endpoint, on_event=events.tell) as link:
        reader, writer = await asyncio.open_connection(link.address.host, link.address.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        assert "refused" in (await events.first(Lost)).reason.lower()


async def test_a_name_that_does_not_exist_is_told():
    events = Events()
    async with Link(Endpoint("no-such-host.invalid", 1), on_event=events.tell) as link:
        _, writer = await asyncio.open_connection(link.address.host, link.address.port)
        writer.close()
        assert "no-such-host.invalid" in (await events.first(Lost)).reason


async def test_an_ipv6_backend_is_reached():
    async with running(Options(host="::1")) as (endpoint, _), Link(endpoint) as link:
        assert (await probe(link.address, timeout_s=DEADLINE_S)).state is ProbeState.OK


async def test_the_port_stays_the_same_over_a_restart():
    async with running() as (endpoint, _):
        link = Link(endpoint)
        first = await link.start()
        await link.aclose()
        second = await link.start()
        try:
            assert second == first
            assert (await probe(second, timeout_s=DEADLINE_S)).state is ProbeState.OK
        finally:
            await link.aclose()


async def test_a_taken_port_is_an_error_with_its_number():
    async with Link(Endpoint("127.0.0.1", 1)) as link:
        other = Link(Endpoint("127.0.0.1", 1), LinkOptions(local_port=link.address.port))
        with pytest.raises(ConnectError, match=str(link.address.port)):
            await other.start()


async def test_closing_the_link_cuts_its_connections():
    async with running() as (endpoint, _):
        link = Link(endpoint)
        await link.start()
        async with client(link.address) as engine:
            await link.aclose()
            assert await engine.end() == b""


async def test_a_silent_backend_is_told_and_stays_connected():
    events = Events()
    options = LinkOptions(deadlines=Deadlines(reply_s=0.2))
    async with (
        running(Options(silent_after_hello=True)) as (endpoint, _),
        Link(endpoint, options, events.tell) as link,
        client(link.address) as engine,
    ):
        engine.tell(Command.DEVICE_COUNT)
        silence = await events.first(Silence)
        assert silence.command == "DEVICE_COUNT"
        assert silence.waited_s >= 0.2
        assert link.snapshot().connections == 1


async def test_a_frozen_worker_is_a_silence_and_its_death_a_loss():
    events = Events()
    options = LinkOptions(deadlines=Deadlines(reply_s=0.2))
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.rpc_server", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert worker.stdout is not None
        line = (await worker.stdout.readline()).decode()
        endpoint = Endpoint("127.0.0.1", int(line.rsplit(":", 1)[1]))
        async with Link(endpoint, options, events.tell) as link, client(link.address) as engine:
            os.kill(worker.pid, signal.SIGSTOP)
            engine.tell(Command.DEVICE_COUNT)
            assert (await events.first(Silence)).endpoint == endpoint
            worker.kill()
            assert await engine.end() == b""
            await events.first(Lost)
    finally:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        await worker.communicate()


async def test_latency_is_added_in_both_directions():
    options = LinkOptions(network=Network(0.05, 0.05))
    async with running() as (endpoint, _), Link(endpoint, options) as link, client(link.address) as engine:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in range(3):
            await engine.ask(Command.DEVICE_COUNT)
        assert loop.time() - start >= 3 * 0.1 - 0.01
        rtt_s = link.snapshot().rtt_s
        assert rtt_s is not None
        assert rtt_s >= 0.095


async def test_a_bandwidth_limit_holds_and_loses_nothing():
    options = LinkOptions(network=Network(mbit_per_s=80.0))  # ten million bytes per second
    async with running() as (endpoint, _), Link(endpoint, options) as link, client(link.address) as engine:
        loop = asyncio.get_running_loop()
        await engine.ask(Command.ALLOC_BUFFER, AllocBufferRequest(0, 4_000_000).pack())
        start = loop.time()
        engine.tell(Command.SET_TENSOR, bytes(3_000_000))
        await engine.ask(Command.DEVICE_COUNT)
        assert loop.time() - start >= 0.29


async def test_a_slow_reader_holds_the_sender_back():
    async with running() as (endpoint, _), Link(endpoint) as link, client(link.address) as engine:
        wanted = (60 * MIB).to_bytes(8, "little")
        engine.tell(Command.GET_TENSOR, bytes(304) + wanted)
        await engine.reader.readexactly(REPLY_HEADER.size)
        engine.writer.transport.pause_reading()  # type: ignore[attr-defined]
        seen = -1
        while link.snapshot().bytes_from_backend != seen:
            seen = link.snapshot().bytes_from_backend
            await asyncio.sleep(0.2)
        assert seen < 40 * MIB
        engine.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await engine.reader.readexactly(60 * MIB)) == 60 * MIB


async def test_an_error_in_one_connection_leaves_the_others_alone(caplog):
    calls = 0

    async def carry(sock: socket.socket) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("a bug")
        await asyncio.get_running_loop().sock_sendall(sock, b"well")

    listener = sockets.listen("127.0.0.1", 0)
    serving = asyncio.get_running_loop().create_task(sockets.accept(listener, carry))
    try:
        said = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            said.append(await reader.read())
            writer.close()
        assert said == [b"", b"well"]
        assert "an error of ours" in caplog.text
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        listener.close()

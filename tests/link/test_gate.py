"""The gate in front of a fake worker, over real sockets."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.link import guest
from rpc_wrapper.link.certificates import make_leaf
from rpc_wrapper.link.deadline import Deadlines
from rpc_wrapper.link.events import LinkEvent, Lost, Refused, Silence
from rpc_wrapper.link.gate import Gate, GateOptions
from rpc_wrapper.link.guest import Refusal
from rpc_wrapper.link.relay import Link, LinkOptions
from rpc_wrapper.link.session import Security
from rpc_wrapper.link.tls import client_context, server_context
from rpc_wrapper.rpc import ProbeState, probe
from rpc_wrapper.rpc.commands import REQUEST_HEADER, Command
from rpc_wrapper.rpc.messages import AllocBufferReply, AllocBufferRequest
from tests.fakes.rpc_server import FakeWorker, Options, running
from tests.link.test_tls import EXPIRED, HOST, OUR_CA, VALID, identity
from tests.link.wire import DEADLINE_S, Client, Events, client, wait_until


@contextlib.asynccontextmanager
async def gate(
    options: GateOptions | None = None, worker: Options | None = None, events: list[LinkEvent] | None = None
) -> AsyncIterator[tuple[Gate, Endpoint, FakeWorker]]:
    """Open a gate in front of a worker that serves one client at a time."""
    events = Events() if events is None else events
    async with running(worker or Options(busy=True)) as (endpoint, fake):
        opened = Gate(endpoint, options or GateOptions(), events.append)
        address = await opened.start()
        try:
            await opened.refresh(DEADLINE_S)
            yield opened, address, fake
        finally:
            await opened.aclose()


async def use(engine: Client) -> None:
    """Ask what only the worker can answer."""
    assert len(await engine.ask(Command.GET_ALIGNMENT, bytes(4))) == 8


async def test_a_probe_is_answered_while_the_worker_is_busy_and_never_reaches_it():
    async with gate() as (opened, address, worker), client(address) as engine:
        await use(engine)
        accepted = worker.accepted
        for _ in range(20):
            result = await probe(address, timeout_s=DEADLINE_S)
            assert result.state is ProbeState.OK
            assert len(result.devices) == 1
        assert worker.accepted == accepted
        assert opened.snapshot().holder == "127.0.0.1"


async def test_short_connections_in_a_row_all_get_in():
    async with gate() as (opened, address, worker):
        for _ in range(13):
            async with client(address) as engine:
                await use(engine)
        assert opened.snapshot().refusals == {}
        assert worker.accepted == 14  # the refresh was the first


async def test_a_second_connection_of_the_holder_waits_for_the_first_to_leave():
    async with gate() as (_, address, _), client(address) as second:
        async with client(address) as first:
            await use(first)
            second.tell(Command.GET_ALIGNMENT, bytes(4))
            await use(first)
        async with asyncio.timeout(DEADLINE_S):
            assert len(await second.reader.readexactly(16)) == 16


async def test_a_second_connection_that_waits_too_long_is_turned_away():
    async with (
        gate(GateOptions(handover_s=0.1)) as (opened, address, _),
        client(address) as first,
        client(address) as second,
    ):
        await use(first)
        second.tell(Command.GET_ALIGNMENT, bytes(4))
        assert await second.end() == b""
        await use(first)
        assert opened.snapshot().refusals == {Refusal.BUSY: 1}


def test_who_waits_too_long_is_turned_away_before_its_link_takes_the_backend_for_silent():
    assert GateOptions().handover_s < Deadlines().reply_s


async def test_another_server_is_turned_away_with_a_reason_in_the_log(caplog):
    caplog.set_level(logging.WARNING)
    async with (
        gate(GateOptions(host="0.0.0.0")) as (opened, address, _),
        client(Endpoint("127.0.0.1", address.port)) as first,
    ):
        await use(first)
        reader, writer = await asyncio.open_connection("127.0.0.1", address.port, local_addr=("127.0.0.2", 0))
        second = Client(reader, writer)
        await second.ask(Command.HELLO, bytes(24))
        second.tell(Command.GET_ALIGNMENT, bytes(4))
        assert await second.end() == b""
        writer.close()
        assert opened.snapshot().refusals == {Refusal.BUSY: 1}
        assert "turned away 127.0.0.2: the worker is serving 127.0.0.1" in caplog.text
        await use(first)


async def test_a_link_to_a_backend_that_serves_another_says_so():
    events = Events()
    async with (
        gate(GateOptions(host="0.0.0.0")) as (_, address, _),
        Link(Endpoint("127.0.0.1", address.port), on_event=events.tell) as link,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", address.port, local_addr=("127.0.0.2", 0))
        first = Client(reader, writer)
        await first.ask(Command.HELLO, bytes(24))
        await use(first)
        async with client(link.address) as second:
            second.tell(Command.GET_ALIGNMENT, bytes(4))
            assert "it serves another llama-server" in (await events.first(Lost)).reason
        writer.close()


async def test_a_refused_buffer_stands_in_the_backend_s_log_but_not_a_flood_of_them(caplog):
    async with gate(GateOptions(budget_bytes=64 * MIB)) as (_, address, _), client(address) as engine:
        for _ in range(5):
            await engine.ask(Command.ALLOC_BUFFER, AllocBufferRequest(0, 65 * MIB).pack())
    assert caplog.text.count("was asked for 65.0 MiB and has 64.0 MiB of its budget left") == 1


async def test_who_breaks_the_protocol_inside_is_named_in_the_log(caplog):
    async with gate() as (_, address, _), client(address) as engine:
        await use(engine)
        engine.tell(Command.SET_TENSOR, bytes(400))
        assert await engine.end() == b""
    assert "cut off 127.0.0.1: the engine's side broke the protocol: SET_TENSOR cannot have 400 bytes" in caplog.text


def test_a_diary_has_one_line_a_second_and_counts_the_rest(caplog, monkeypatch):
    now = iter([10.0, 10.5, 10.9, 11.0])
    monkeypatch.setattr(guest, "monotonic", lambda: next(now))
    diary = guest.Diary()
    for sentence in ("one", "two", "three", "four"):
        diary.write(sentence)
    assert caplog.messages == ["one", "four (and 2 others before it)"]


async def test_the_budget_holds_whatever_the_client_asks():
    events = Events()
    async with gate(GateOptions(budget_bytes=64 * MIB), events=events) as (opened, address, worker):
        result = await probe(address, timeout_s=DEADLINE_S)
        assert [device.total_bytes for device in result.devices] == [64 * MIB]
        async with client(address) as engine:
            reply = await engine.ask(Command.ALLOC_BUFFER, AllocBufferRequest(0, 65 * MIB).pack())
            assert AllocBufferReply.unpack(reply).is_refused
            await engine.ask(Command.ALLOC_BUFFER, AllocBufferRequest(0, 40 * MIB).pack())
            assert worker.buffers.free_bytes == [(1 << 30) - 40 * MIB]
            busy = await probe(address, timeout_s=DEADLINE_S)
            assert [device.free_bytes for device in busy.devices] == [24 * MIB]
            assert opened.snapshot().meter.allocated_bytes == {0: 40 * MIB}
            engine.tell(Command.SET_TENSOR, bytes(400 + 40 * MIB))
            assert await engine.end() == b""
    assert any(isinstance(event, Refused) for event in events)
    assert any("SET_TENSOR cannot have" in str(event) for event in events)


async def test_who_never_finishes_a_handshake_is_dropped():
    async with gate(GateOptions(hello_timeout_s=0.1)) as (opened, address, worker):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"\x0e")
        assert await Client(reader, writer).end() == b""
        writer.close()
        assert opened.snapshot().refusals == {Refusal.TOO_SLOW: 1}
        assert worker.accepted == 1


async def test_half_a_command_takes_no_lease():
    half = REQUEST_HEADER.pack(Command.ALLOC_BUFFER, 12) + bytes(3)
    async with (
        gate(GateOptions(guest_timeout_s=0.2)) as (opened, address, worker),
        client(address) as stuck,
        client(address) as engine,
    ):
        stuck.writer.write(half)
        await use(engine)
        assert await stuck.end() == b""
        await use(engine)
        assert opened.snapshot().refusals == {Refusal.TOO_SLOW: 1}
        assert worker.accepted == 2


async def test_a_guest_that_stays_is_dropped():
    async with gate(GateOptions(guest_timeout_s=0.1)) as (opened, address, _), client(address) as guest:
        assert await guest.end() == b""
        assert opened.snapshot().refusals == {Refusal.TOO_SLOW: 1}


async def test_beyond_the_limit_of_guests_the_one_that_lingers_must_go():
    async with (
        gate(GateOptions(max_guests=1)) as (opened, address, _),
        client(address) as greeted,
        client(address) as engine,
    ):
        assert await greeted.end() == b""
        await use(engine)
        assert opened.snapshot().refusals == {Refusal.CROWDED: 1}


async def test_handshakes_that_are_never_finished_do_not_keep_a_new_server_out(tmp_path):
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, HOST, VALID)))
    ours = client_context(identity(tmp_path / "ours", make_leaf(OUR_CA, "main", VALID)))
    async with (
        gate(GateOptions(context=theirs, max_guests=8)) as (opened, address, _),
        Link(address, LinkOptions(security=Security(ours, HOST))) as link,
    ):
        slow = [await asyncio.open_connection(address.host, address.port) for _ in range(40)]
        async with client(link.address) as engine:
            await use(engine)
        await wait_until(lambda: opened.snapshot().refusals.get(Refusal.CROWDED, 0) >= 32)
        assert opened.snapshot().guests <= 8
        for _, writer in slow:
            writer.close()


async def test_the_holder_is_let_in_however_crowded_it_is():
    async with gate(GateOptions(max_guests=1)) as (_, address, _):
        async with client(address) as engine:
            await use(engine)
        async with client(address), client(address) as engine:
            await use(engine)


async def test_without_a_worker_everybody_is_turned_away():
    async with gate() as (opened, address, _):
        opened.forget()
        assert (await probe(address, timeout_s=DEADLINE_S)).state is not ProbeState.OK
        assert set(opened.snapshot().refusals) == {Refusal.NOT_READY}
        await opened.refresh(DEADLINE_S)
        assert (await probe(address, timeout_s=DEADLINE_S)).state is ProbeState.OK


async def test_a_worker_that_dies_takes_the_client_with_it():
    events = Events()
    async with gate(events=events) as (opened, address, worker):
        worker.options = replace(worker.options, close_after_hello=True)
        async with client(address) as engine:
            engine.tell(Command.GET_ALIGNMENT, bytes(4))
            assert await engine.end() == b""
        await wait_until(lambda: opened.snapshot().meter.connections == 0)
        assert any(isinstance(event, Lost) for event in events)


async def test_a_silent_worker_is_told():
    events = Events()
    options = GateOptions(deadlines=Deadlines(reply_s=0.1))
    async with gate(options, events=events) as (_, address, worker):
        worker.options = replace(worker.options, silent_after_hello=True)
        async with client(address) as engine:
            engine.tell(Command.GET_ALIGNMENT, bytes(4))
            await wait_until(lambda: any(isinstance(event, Silence) for event in events))


async def throw_garbage(address: Endpoint, chance: random.Random) -> None:
    """Be one connection of a port scan: noise, half a request, a huge one, or nothing."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    noise = chance.choice(
        [
            chance.randbytes(chance.randrange(1, 300)),
            b"\x0e" + (24).to_bytes(8, "little") + bytes(chance.randrange(24)),
            b"\x0e" + (24).to_bytes(8, "little") + bytes(24) + b"\x00" + (1 << 62).to_bytes(8, "little"),
            b"GET / HTTP/1.0\r\n\r\n",
            b"",
        ]
    )
    writer.write(noise)
    with contextlib.suppress(ConnectionError):
        await writer.drain()
        if chance.random() < 0.5:
            await reader.read()
    writer.close()


async def test_a_flood_of_garbage_does_not_disturb_the_client_inside():
    chance = random.Random(1)
    async with gate(GateOptions(hello_timeout_s=0.1)) as (opened, address, worker), client(address) as engine:
        await use(engine)
        accepted = worker.accepted
        for _ in range(20):
            async with asyncio.TaskGroup() as flood:
                for _ in range(25):
                    flood.create_task(throw_garbage(address, chance))
                await use(engine)
        assert worker.accepted == accepted
        await wait_until(lambda: opened.snapshot().guests == 0)
        assert len(opened.snapshot().refusals) <= len(Refusal)


async def test_a_link_and_a_gate_speak_tls_to_each_other(tmp_path):
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, HOST, VALID)))
    ours = client_context(identity(tmp_path / "ours", make_leaf(OUR_CA, "main", VALID)))
    options = LinkOptions(security=Security(ours, HOST))
    async with (
        gate(GateOptions(context=theirs)) as (_, address, worker),
        Link(address, options) as link,
        client(link.address) as engine,
    ):
        await use(engine)
        await engine.ask(Command.ALLOC_BUFFER, AllocBufferRequest(0, 9 * MIB).pack())
        engine.tell(Command.SET_TENSOR, bytes(8 * MIB))
        assert len(await engine.ask(Command.GET_TENSOR, bytes(304) + (5 * MIB).to_bytes(8, "little"))) == 5 * MIB
        assert worker.accepted == 2


@pytest.mark.parametrize(
    ("has_tls", "reason"), [(True, "its certificate has expired"), (False, "it does not speak TLS")]
)
async def test_a_gate_says_in_its_log_why_tls_failed(has_tls, reason, tmp_path, caplog):
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, HOST, VALID)))
    ours = client_context(identity(tmp_path / "ours", make_leaf(OUR_CA, "main", EXPIRED)))
    options = LinkOptions(security=Security(ours, HOST) if has_tls else None)
    async with gate(GateOptions(context=theirs)) as (opened, address, _), Link(address, options) as link:
        await probe(link.address, timeout_s=DEADLINE_S)
        await wait_until(lambda: set(opened.snapshot().refusals) == {Refusal.HANDSHAKE})
        assert reason in caplog.text

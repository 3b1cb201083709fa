"""The client against a worker that misbehaves in every way we know; real sockets, port 0."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import RemoteProtocolError, TransportError
from rpc_wrapper.rpc import client
from rpc_wrapper.rpc.client import MAX_WORKER_DEVICES, connect, probe, probe_all
from rpc_wrapper.rpc.commands import ProtocolVersion
from rpc_wrapper.rpc.messages import HelloReply
from rpc_wrapper.rpc.result import DeviceMemory, ProbeState
from tests.fakes.rpc_server import Options, running

SHORT_S = 0.2  # for silences that must run their full length
LONG_S = 20.0  # for answers that must come: a slow machine must not turn them into silences


@pytest.mark.parametrize(
    ("options", "timeout_s", "state", "detail"),
    [
        (Options(), LONG_S, ProbeState.OK, "it is free to serve"),
        (Options(hello_delay_s=0.05), LONG_S, ProbeState.OK, "free"),
        (Options(silent=True), SHORT_S, ProbeState.BUSY, "connected but silent in HELLO for 0.2 s: it serves another"),
        (Options(hello_delay_s=60), SHORT_S, ProbeState.BUSY, "silent in HELLO"),
        (Options(version=ProtocolVersion(7, 1, 0)), LONG_S, ProbeState.WRONG_VERSION, "speaks RPC protocol 7.1.0"),
        (Options(version=ProtocolVersion(6, 0, 0)), LONG_S, ProbeState.WRONG_VERSION, "and this engine 7.0.0: run"),
        (
            Options(version=ProtocolVersion(3, 6, 1), old_protocol=True),
            LONG_S,
            ProbeState.WRONG_VERSION,
            "speaks RPC protocol 3.6.1",
        ),
        (Options(close_on_hello=True), LONG_S, ProbeState.DOWN, "closes the connection on HELLO"),
        (Options(garbage=True), LONG_S, ProbeState.NOT_RPC, "the reply to HELLO announces"),
        (Options(http=True), SHORT_S, ProbeState.NOT_RPC, "the port of a web server"),
        (Options(devices=()), LONG_S, ProbeState.NOT_RPC, "announces 0 devices"),
        (
            Options(devices=((1, 1),) * (MAX_WORKER_DEVICES + 1)),
            LONG_S,
            ProbeState.NOT_RPC,
            f"announces {MAX_WORKER_DEVICES + 1} devices",
        ),
        (Options(silent_after_hello=True), SHORT_S, ProbeState.DOWN, "after it had answered HELLO"),
        (Options(close_after_hello=True), LONG_S, ProbeState.DOWN, "closed the connection instead of answering DEVICE"),
    ],
    ids=lambda value: str(value) if isinstance(value, ProbeState) else None,
)
async def test_every_kind_of_peer_gets_its_own_answer(options, timeout_s, state, detail):
    async with running(options) as (endpoint, _):
        result = await probe(endpoint, timeout_s=timeout_s)
    assert result.state is state
    assert detail in result.detail


async def test_a_free_worker_tells_everything():
    async with running(Options(devices=((5, 10), (7, 20)))) as (endpoint, _):
        result = await probe(endpoint, timeout_s=LONG_S)
    assert result.endpoint == endpoint
    assert result.version == ProtocolVersion(7, 0, 0)
    assert result.devices == (DeviceMemory(5, 10), DeviceMemory(7, 20))
    assert result.rtt_s is not None
    assert 0 < result.rtt_s < LONG_S


async def test_a_worker_is_busy_while_another_client_holds_it_and_free_afterwards():
    async with running(Options(busy=True)) as (endpoint, _):
        async with await connect(endpoint, timeout_s=LONG_S) as holder:
            await holder.hello()
            assert (await probe(endpoint, timeout_s=SHORT_S)).state is ProbeState.BUSY
            assert await holder.device_count() == 1  # the probe did not disturb it
        assert (await probe(endpoint, timeout_s=LONG_S)).state is ProbeState.OK


async def test_a_probe_leaves_at_once():
    async with running(Options(busy=True, exit_after=2)) as (endpoint, worker):
        for _ in range(2):
            assert (await probe(endpoint, timeout_s=LONG_S)).state is ProbeState.OK
        async with asyncio.timeout(LONG_S):
            await worker.finished.wait()


@contextlib.asynccontextmanager
async def recording_peer(answer: bytes) -> AsyncIterator[tuple[Endpoint, "asyncio.Future[BaseException | None]"]]:
    """Answer with ``answer`` and record how the client left: an orderly end is None, a reset its exception."""
    farewell: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        try:
            await reader.read(-1)
            farewell.set_result(None)
        except ConnectionResetError as exc:
            farewell.set_result(exc)
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]), farewell


async def test_a_client_that_awaits_an_answer_leaves_by_a_reset():
    """An orderly close would end a real worker with SIGPIPE once it gets round to answering."""
    async with recording_peer(b"") as (endpoint, farewell):
        assert (await probe(endpoint, timeout_s=SHORT_S)).state is ProbeState.BUSY
        assert isinstance(await asyncio.wait_for(farewell, LONG_S), ConnectionResetError)


async def test_a_client_that_is_owed_nothing_leaves_in_the_orderly_way():
    async with recording_peer(HelloReply(7, 0, 0).frame()) as (endpoint, farewell):
        async with await connect(endpoint, timeout_s=LONG_S) as worker:
            await worker.hello()
        assert await asyncio.wait_for(farewell, LONG_S) is None


async def test_a_cancelled_probe_leaves_by_a_reset_too():
    async with recording_peer(b"") as (endpoint, farewell):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(probe(endpoint, timeout_s=LONG_S), SHORT_S)
        assert isinstance(await asyncio.wait_for(farewell, LONG_S), ConnectionResetError)


@pytest.fixture
def unused_port():
    """Yield a port that nobody listens on, and nobody else can take meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


async def test_a_port_without_listener_is_down(unused_port):
    result = await probe(Endpoint("127.0.0.1", unused_port), timeout_s=LONG_S)
    assert result.state is ProbeState.DOWN
    assert result.detail == f"the connection was refused: nothing listens on port {unused_port} there"


async def test_a_syn_without_answer_is_down_and_says_that_a_busy_worker_looks_like_that():
    """Fill the backlog of a listener that never accepts, as clients do to a worker that computes."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        endpoint = Endpoint("127.0.0.1", listener.getsockname()[1])
        for _ in range(4):
            client_socket = waiting.enter_context(socket.socket())
            client_socket.setblocking(False)
            client_socket.connect_ex((endpoint.host, endpoint.port))
        result = await probe(endpoint, timeout_s=SHORT_S)
    assert result.state is ProbeState.DOWN
    assert "nothing answered in 0.2 s" in result.detail
    assert "a busy worker" in result.detail


async def test_an_unreachable_address_is_down():
    result = await probe(Endpoint("255.255.255.255", 50052), timeout_s=LONG_S)
    assert result.state is ProbeState.DOWN
    assert "no connection could be made" in result.detail


async def test_names_and_ipv6_work():
    async with running() as (endpoint, _):
        assert (await probe(Endpoint("localhost", endpoint.port), timeout_s=LONG_S)).state is ProbeState.OK
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    async with running(Options(host="::1")) as (endpoint, _):
        assert (await probe(endpoint, timeout_s=LONG_S)).state is ProbeState.OK


async def test_the_next_address_is_tried_when_the_first_refuses(monkeypatch):
    async with running() as (endpoint, _):

        async def two_addresses(*_args: object, **_kwargs: object) -> tuple[str, ...]:
            return ("127.0.0.2", endpoint.host)

        monkeypatch.setattr(client, "resolve", two_addresses)
        assert (await probe(endpoint, timeout_s=LONG_S)).state is ProbeState.OK


async def test_a_bad_name_is_unresolvable():
    result = await probe(Endpoint("backend.invalid", 50052), timeout_s=LONG_S)
    assert result.state is ProbeState.UNRESOLVABLE
    assert "'backend.invalid'" in result.detail


async def test_all_are_probed_at_the_same_time():
    """A peer that greets nobody before everybody has come would starve probes that take turns."""
    everybody = asyncio.Barrier(3)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await everybody.wait()
        writer.write(HelloReply(6, 0, 0).frame())
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        results = await probe_all([endpoint] * 3, timeout_s=LONG_S)
    assert [result.state for result in results] == [ProbeState.WRONG_VERSION] * 3


async def test_results_keep_the_order_of_the_endpoints():
    async with running(Options(silent=True)) as (silent, _), running() as (free, _):
        results = await probe_all([silent, free, silent], timeout_s=SHORT_S)
    assert [result.endpoint for result in results] == [silent, free, silent]


async def test_asking_for_a_device_that_does_not_exist_says_that_the_worker_closed():
    async with running() as (endpoint, _), await connect(endpoint, timeout_s=LONG_S) as worker:
        await worker.hello()
        with pytest.raises(TransportError, match="instead of answering GET_DEVICE_MEMORY"):
            await worker.device_memory(7)


async def test_a_web_server_that_answers_only_a_whole_header_is_found_out():
    async with running(Options(http=True)) as (endpoint, _), await connect(endpoint, timeout_s=SHORT_S) as worker:
        with pytest.raises(RemoteProtocolError, match="web server"):
            await worker.hello()

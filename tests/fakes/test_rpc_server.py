"""The fake is a program; it is tested as one."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from rpc_wrapper.devices import Endpoint, parse_endpoint
from rpc_wrapper.rpc.client import connect
from rpc_wrapper.rpc.commands import REQUEST_HEADER, SHAPES, Command, ProtocolVersion
from rpc_wrapper.rpc.messages import AllocBufferReply, AllocBufferRequest, FreeBufferRequest, HelloReply, HelloRequest

DEADLINE_S = 30.0


@contextlib.asynccontextmanager
async def started(*flags: str) -> AsyncIterator[tuple[Endpoint, asyncio.subprocess.Process]]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.rpc_server", *flags, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        line = (await asyncio.wait_for(child.stdout.readline(), DEADLINE_S)).decode()
        assert line.startswith("Listening on "), line
        yield parse_endpoint(line.removeprefix("Listening on ")), child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


class RawClient:
    """Speak to the fake without the client under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), DEADLINE_S)


@contextlib.asynccontextmanager
async def raw(endpoint: Endpoint) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def greeted(endpoint: Endpoint) -> AsyncIterator[RawClient]:
    async with raw(endpoint) as peer:
        peer.writer.write(HelloRequest().frame())
        assert await peer.read(36) == HelloReply(7, 0, 0).frame()
        yield peer


async def test_version_and_devices_are_what_the_flags_say():
    flags = ("--version", "6.5.4", "--device", "1:2", "--device", "3:4")
    async with started(*flags) as (endpoint, _), await connect(endpoint, timeout_s=DEADLINE_S) as worker:
        assert await worker.hello() == ProtocolVersion(6, 5, 4)
        assert await worker.device_count() == 2
        assert (await worker.device_memory(1)).total_bytes == 4


async def test_exit_after_ends_the_program_with_0():
    async with started("--exit-after", "1") as (endpoint, child):
        async with raw(endpoint):
            pass
        assert await asyncio.wait_for(child.wait(), DEADLINE_S) == 0


async def test_sigterm_ends_it_unless_it_is_told_to_ignore_it():
    async with started() as (_, mortal), started("--ignore-sigterm") as (endpoint, deaf):
        mortal.terminate()
        deaf.terminate()
        assert await asyncio.wait_for(mortal.wait(), DEADLINE_S) == -signal.SIGTERM
        async with greeted(endpoint):
            assert deaf.returncode is None


async def test_busy_serves_one_client_at_a_time():
    async with started("--busy") as (endpoint, _):
        async with greeted(endpoint), raw(endpoint) as second:
            second.writer.write(HelloRequest().frame())
            waiting = asyncio.get_running_loop().create_task(second.read(36))
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.wait([waiting], timeout=0.2)
            assert not waiting.done()
            waiting.cancel()
        async with greeted(endpoint):
            pass


@pytest.mark.parametrize(
    ("flag", "request_", "answer"),
    [
        ("--close-on-hello", HelloRequest().frame(), b""),
        ("--garbage", HelloRequest().frame(), bytes(range(200, 208))),
        ("--old-protocol", HelloRequest().frame(), b""),
        ("--old-protocol", b"\x0e" + bytes(8), b"\x03" + bytes(7)),
        ("--http", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1"),
        ("--busy", b"\x0f" + bytes(8), b""),
        ("--busy", b"\xff" + bytes(8), b""),
    ],
)
async def test_each_way_to_misbehave(flag, request_, answer):
    async with started(flag) as (endpoint, _), raw(endpoint) as peer:
        peer.writer.write(request_)
        assert await asyncio.wait_for(peer.reader.read(8), DEADLINE_S) == answer


@pytest.mark.parametrize("flag", ["--silent", "--silent-after-hello", "--hello-delay=60"])
async def test_silence_is_silence(flag):
    async with started(flag) as (endpoint, _), raw(endpoint) as peer:
        peer.writer.write(HelloRequest().frame())
        if flag == "--silent-after-hello":
            await peer.read(36)
            peer.writer.write(b"\x0f" + bytes(8))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.reader.read(1), 0.2)


async def test_buffers_are_counted_per_device():
    async with started("--device", "100:100") as (endpoint, _), greeted(endpoint) as peer:

        async def alloc(size_bytes: int) -> AllocBufferReply:
            peer.writer.write(AllocBufferRequest(0, size_bytes).frame())
            return AllocBufferReply.unpack((await peer.read(24))[8:])

        first = await alloc(60)
        assert first.remote_size_bytes == 60
        assert (await alloc(60)).is_refused
        peer.writer.write(FreeBufferRequest(first.remote_ptr).frame())
        assert not (await alloc(60)).is_refused


@pytest.mark.parametrize("command", [command for command in Command if command is not Command.HELLO], ids=str)
async def test_every_command_is_answered_exactly_when_the_protocol_says_so(command):
    shape = SHAPES[command]
    async with started() as (endpoint, _), greeted(endpoint) as peer:
        peer.writer.write(AllocBufferRequest(0, 1).frame())  # so that there is a buffer 1 to free
        await peer.read(24)
        payload = (1).to_bytes(8, "little") if command is Command.FREE_BUFFER else bytes(shape.request.least)
        peer.writer.write(REQUEST_HEADER.pack(command, len(payload)) + payload)
        if shape.reply is not None:
            assert int.from_bytes(await peer.read(8), "little") == shape.reply.least
            await peer.read(shape.reply.least)
        peer.writer.write(b"\x0f" + bytes(8))  # DEVICE_COUNT comes next and nothing before it
        assert await peer.read(12) == bytes.fromhex("0400000000000000 01000000")

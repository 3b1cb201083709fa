"""The network that can be cut does to connections what its help says."""

import asyncio
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing

import pytest

DEADLINE_S = 10.0
Answerer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Line:
    """A running wire to an echo server."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def set(self, mode: str) -> None:
        """Change what it does and wait until that is in force."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = f"{self.port} {mode}\n".encode()
        self._process.stdin.write(said)
        assert await asyncio.wait_for(self._process.stdout.readline(), DEADLINE_S) == said

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect through it."""
        return await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.port), DEADLINE_S)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write(b"bye")
    writer.close()


async def read_one(port: int) -> bytes:
    """Connect and read a byte; whatever goes wrong may do so before we know that we are connected."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        return await asyncio.wait_for(reader.read(1), DEADLINE_S)


@asynccontextmanager
async def wire(answer: Answerer = echo) -> AsyncIterator[Line]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    target, port = server.sockets[0].getsockname()[1], free_port()
    pipe = asyncio.subprocess.PIPE
    argv = [sys.executable, "-m", "tests.fakes.wire", f"{port}=127.0.0.1:{target}"]
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert process.stdin is not None
    assert await asyncio.wait_for(process.stdout.readline(), DEADLINE_S) == b"wires are up\n"
    try:
        async with server:
            yield Line(process, port)
            process.stdin.close()
            assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_carries_bytes_and_ends_whole():
    async with wire() as line:
        reader, writer = await line.connect()
        sent = bytes(range(256)) * 40_000  # more than all buffers hold
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), DEADLINE_S) == sent + b"bye"
        writer.close()


async def test_a_stall_holds_bytes_and_ends_back_and_loses_none():
    async with wire() as line:
        reader, writer = await line.connect()
        writer.write(b"before ")
        assert await asyncio.wait_for(reader.readexactly(7), DEADLINE_S) == b"before "
        await line.set("stall")
        writer.write(b"during")
        writer.write_eof()
        late, late_writer = await line.connect()
        late_writer.write(b"late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        await line.set("flow")
        assert await asyncio.wait_for(reader.read(-1), DEADLINE_S) == b"duringbye"
        assert await asyncio.wait_for(late.readexactly(4), DEADLINE_S) == b"late"
        writer.close()
        late_writer.close()


async def test_a_reset_comes_out_as_a_reset():
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with wire(slam) as line:
        with pytest.raises(ConnectionResetError):
            await read_one(line.port)


async def test_refusing_resets_what_is_open_and_takes_nobody_new_until_it_flows():
    async with wire() as line:
        reader, writer = await line.connect()
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), DEADLINE_S) == b"x"
        await line.set("refuse")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), DEADLINE_S)
        with pytest.raises(ConnectionRefusedError):
            await line.connect()
        await line.set("flow")
        again, again_writer = await line.connect()
        again_writer.write(b"y")
        assert await asyncio.wait_for(again.readexactly(1), DEADLINE_S) == b"y"
        writer.close()
        again_writer.close()


async def test_slow_means_late_in_both_directions():
    async with wire() as line:
        await line.set("slow 50")
        loop = asyncio.get_running_loop()
        reader, writer = await line.connect()
        began = loop.time()
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), DEADLINE_S) == b"x"
        assert loop.time() - began >= 0.1
        writer.close()


async def test_nobody_behind_it_is_a_reset():
    port, nobody = free_port(), free_port()
    pipe = asyncio.subprocess.PIPE
    argv = [sys.executable, "-m", "tests.fakes.wire", f"{port}=127.0.0.1:{nobody}"]
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)
        with pytest.raises(ConnectionResetError):
            await read_one(port)
    finally:
        process.stdin.close()
        await process.communicate()

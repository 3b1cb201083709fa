"""A ggml RPC worker that computes nothing and misbehaves on demand: ``python -m tests.fakes.rpc_server --help``.

Its first line is ``Listening on HOST:PORT``. Commands it knows the meaning of get a true answer (HELLO, devices,
buffers); the others are read and, where the protocol demands one, answered with zeros of the right size.
"""

import argparse
import asyncio
import contextlib
import signal
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.rpc.commands import PINNED, REPLY_HEADER, REQUEST_HEADER, SHAPES, Command, ProtocolVersion
from rpc_wrapper.rpc.messages import (
    AllocBufferReply,
    AllocBufferRequest,
    DeviceCountReply,
    DeviceMemoryReply,
    DeviceMemoryRequest,
    FreeBufferRequest,
    HelloReply,
    OldHelloReply,
)

MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
GARBAGE = bytes(range(200, 256)) * 8
HTTP_ANSWER = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Options:
    """How to behave; the defaults are a friendly worker with one device."""

    host: str = "127.0.0.1"
    port: int = 0
    version: ProtocolVersion = PINNED
    devices: tuple[tuple[int, int], ...] = ((1 << 30, 1 << 30),)
    hello_delay_s: float = 0.0
    busy: bool = False
    close_on_hello: bool = False
    old_protocol: bool = False
    garbage: bool = False
    http: bool = False
    silent: bool = False
    silent_after_hello: bool = False
    close_after_hello: bool = False
    exit_after: int | None = None


@dataclass(slots=True)
class _Buffers:
    """What clients hold of each device; a buffer's address is its number."""

    free_bytes: list[int]
    held: dict[int, tuple[int, int]] = field(default_factory=dict)
    last_ptr: int = 0

    def alloc(self, request: AllocBufferRequest) -> AllocBufferReply:
        if request.size_bytes > self.free_bytes[request.device]:
            return AllocBufferReply(0, 0)
        self.free_bytes[request.device] -= request.size_bytes
        self.last_ptr += 1
        self.held[self.last_ptr] = (request.device, request.size_bytes)
        return AllocBufferReply(self.last_ptr, request.size_bytes)

    def release(self, remote_ptr: int) -> None:
        device, size_bytes = self.held.pop(remote_ptr)
        self.free_bytes[device] += size_bytes


class FakeWorker:
    """Serve connections as the options say; ``finished`` is set after ``exit_after`` of them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.buffers = _Buffers([free for free, _ in options.devices])
        self.finished = asyncio.Event()
        self.accepted = 0
        self._served = 0
        self._turn = asyncio.Lock() if options.busy else contextlib.nullcontext()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self.accepted += 1
        try:
            async with self._turn:
                await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, OSError, KeyError, IndexError, ValueError):
            pass  # like the real one: any trouble with a client ends that client, silently
        finally:
            self._served += 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            if self._served == self.options.exit_after:
                self.finished.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.options.http:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HTTP_ANSWER)
            return
        if self.options.silent:
            await reader.read(-1)
            return
        if not await self._hello(reader, writer):
            return
        while True:
            command, payload = await _read_request(reader)
            if self.options.silent_after_hello:
                await reader.read(-1)
            writer.write(self._answer(command, payload))

    async def _hello(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        command, payload = await _read_request(reader)
        expected = 0 if self.options.old_protocol else 24
        if self.options.close_on_hello or command is not Command.HELLO or len(payload) != expected:
            return False
        await asyncio.sleep(self.options.hello_delay_s)
        if self.options.garbage:
            writer.write(GARBAGE)
            return False
        reply = OldHelloReply if self.options.old_protocol else HelloReply
        writer.write(reply(*self.options.version).frame())
        return not self.options.close_after_hello

    def _answer(self, command: Command, payload: bytes) -> bytes:
        match command:
            case Command.DEVICE_COUNT:
                return DeviceCountReply(len(self.options.devices)).frame()
            case Command.GET_DEVICE_MEMORY:
                device = DeviceMemoryRequest.unpack(payload).device
                return DeviceMemoryReply(self.buffers.free_bytes[device], self.options.devices[device][1]).frame()
            case Command.ALLOC_BUFFER:
                return self.buffers.alloc(AllocBufferRequest.unpack(payload)).frame()
            case Command.FREE_BUFFER:
                self.buffers.release(FreeBufferRequest.unpack(payload).remote_ptr)
        return _zeros(command, payload)


def _zeros(command: Command, payload: bytes) -> bytes:
    reply = SHAPES[command].reply
    if reply is None:
        return b""
    # GET_TENSOR says itself how much it wants, in its last field.
    size = reply.least if reply.most is not None else min(*struct.unpack("<Q", payload[-8:]), MAX_PAYLOAD_BYTES)
    return REPLY_HEADER.pack(size) + bytes(size)


async def _read_request(reader: asyncio.StreamReader) -> tuple[Command, bytes]:
    number, size = REQUEST_HEADER.unpack(await reader.readexactly(REQUEST_HEADER.size))
    command = Command(number)
    is_sane = command is Command.HELLO or SHAPES[command].request.accepts(size)
    if not is_sane or size > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{command.name} of {size} bytes")
    return command, await reader.readexactly(size)


@contextlib.asynccontextmanager
async def running(options: Options | None = None) -> AsyncIterator[tuple[Endpoint, FakeWorker]]:
    """Run a worker inside this event loop; yield its endpoint and the worker itself."""
    options = options or Options()
    worker = FakeWorker(options)
    tasks: set[asyncio.Task[None]] = set()

    def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(worker.accept(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(on_connection, options.host, options.port)
    try:
        yield Endpoint(options.host, server.sockets[0].getsockname()[1]), worker
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _device(text: str) -> tuple[int, int]:
    free, _, total = text.partition(":")
    return int(free), int(total)


def _parse(argv: list[str]) -> tuple[Options, bool]:
    parser = argparse.ArgumentParser(prog="rpc_server", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0)
    add("--version", type=ProtocolVersion.parse, default=PINNED)
    add("--device", dest="devices", type=_device, action="append", metavar="FREE:TOTAL")
    add("--hello-delay", dest="hello_delay_s", type=float, default=0.0, metavar="S")
    add("--exit-after", type=int, metavar="N", help="exit 0 after N connections")
    for flag, what in (
        ("--busy", "serve one client at a time; the others wait"),
        ("--close-on-hello", "hang up instead of answering HELLO"),
        ("--old-protocol", "expect an empty HELLO, answer it with 3 bytes"),
        ("--garbage", "answer HELLO with nonsense"),
        ("--http", "be a web server that waits for the end of the header"),
        ("--silent", "accept and never answer"),
        ("--silent-after-hello", "answer HELLO, then nothing"),
        ("--close-after-hello", "answer HELLO, then hang up"),
        ("--ignore-sigterm", "survive SIGTERM"),
    ):
        add(flag, action="store_true", help=what)
    values = vars(parser.parse_args(argv))
    ignore_sigterm = values.pop("ignore_sigterm")
    values["devices"] = tuple(values["devices"] or Options().devices)
    return Options(**values), ignore_sigterm


async def _main(options: Options) -> None:
    async with running(options) as (endpoint, worker):
        print(f"Listening on {endpoint}", flush=True)
        await worker.finished.wait()


if __name__ == "__main__":
    chosen, is_deaf = _parse(sys.argv[1:])
    if is_deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(chosen))

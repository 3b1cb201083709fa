"""A client that speaks raw frames, and a list of the events it caused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.link.events import LinkEvent
from rpc_wrapper.rpc.commands import REPLY_HEADER, REQUEST_HEADER, Command
from rpc_wrapper.rpc.messages import HelloReply, HelloRequest

DEADLINE_S = 20.0


E = TypeVar("E", bound=LinkEvent)


class Events(list[LinkEvent]):
    """What a link told."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def tell(self, event: LinkEvent) -> None:
        self.append(event)
        self._changed.set()

    async def first(self, kind: type[E]) -> E:
        """Wait for an event of a kind."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for event in self:
                    if isinstance(event, kind):
                        return event
                self._changed.clear()
                await self._changed.wait()


class Client:
    """A client that speaks raw frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, command: Command, payload: bytes = b"") -> bytes:
        self.tell(command, payload)
        async with asyncio.timeout(DEADLINE_S):
            (size,) = REPLY_HEADER.unpack(await self.reader.readexactly(REPLY_HEADER.size))
            return await self.reader.readexactly(size)

    def tell(self, command: Command, payload: bytes = b"") -> None:
        self.writer.write(REQUEST_HEADER.pack(command, len(payload)) + payload)

    async def end(self) -> bytes:
        """Wait until the other side is gone; return what it still said."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@contextlib.asynccontextmanager
async def client(endpoint: Endpoint) -> AsyncIterator[Client]:
    """Connect and say HELLO."""
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    connected = Client(reader, writer)
    try:
        HelloReply.unpack(await connected.ask(Command.HELLO, HelloRequest().pack()))
        yield connected
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait for something that has no event of its own."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

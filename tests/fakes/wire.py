"""A network between two programs that can be cut: ``python -m tests.fakes.wire 18740=127.0.0.1:18720``.

Each PORT=HOST:PORT listens on loopback and carries connections there. A line on standard input changes what one of them
does to all its connections, the new ones too, and is printed again once it is in force:

    PORT flow        carry bytes as they come, those that were held back first
    PORT slow MS     carry each piece that many milliseconds late, in both directions
    PORT stall       carry nothing: no byte, no end, no reset; connections stay open, as when packets are dropped
    PORT refuse      reset every connection and listen no more
"""

import argparse
import asyncio
import contextlib
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable

READY = "wires are up"


class Wire:
    """One listening port and what happens to its connections."""

    def __init__(self, port: int, host: str, target: int) -> None:
        self.port, self.host, self.target = port, host, target
        self.ends: set[End] = set()
        self.delay_s = 0.0
        self.is_stalled = False
        self._due: deque[tuple[float, Callable[[], None]]] = deque()  # in order, whatever the delay was meanwhile
        self._server: asyncio.Server | None = None

    async def flow(self) -> None:
        """Carry everything, what was held back first."""
        self.is_stalled, self.delay_s = False, 0.0
        self._deliver()
        for end in self.ends:
            end.listen_again()
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: Front(self), "127.0.0.1", self.port)

    def stall(self) -> None:
        """Carry nothing, and tell nobody."""
        self.is_stalled = True
        for end in self.ends:
            end.listen_again()

    def refuse(self) -> None:
        """Be a machine where nobody listens."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for end in list(self.ends):
            end.reset()

    def carry(self, deliver: Callable[[], None]) -> None:
        """Do now, late, or when the stall is over, what one end asks for the other."""
        loop = asyncio.get_running_loop()
        self._due.append((loop.time() + self.delay_s, deliver))
        if self.delay_s:
            loop.call_later(self.delay_s, self._deliver)
        else:
            self._deliver()

    def _deliver(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._due and not self.is_stalled:
            at, deliver = self._due[0]
            if at > now:
                asyncio.get_running_loop().call_at(at, self._deliver)
                return
            self._due.popleft()
            deliver()


class End(asyncio.Protocol):
    """One side of a connection; ``peer`` is the other."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.peer: End | None = None
        self.is_full = False  # the peer of this end writes faster than it is read
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.wire.ends.add(self)
        self.listen_again()

    def data_received(self, data: bytes) -> None:
        self.wire.carry(lambda: self._to_peer(lambda transport: transport.write(data)))

    def eof_received(self) -> bool:
        self.wire.carry(lambda: self._to_peer(lambda transport: transport.write_eof()))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.wire.ends.discard(self)
        self.wire.carry(lambda: self._lose_peer(is_reset=exc is not None))

    def pause_writing(self) -> None:
        self._fill(True)

    def resume_writing(self) -> None:
        self._fill(False)

    def _fill(self, is_full: bool) -> None:
        self.is_full = is_full
        if self.peer is not None:
            self.peer.listen_again()

    def listen_again(self) -> None:
        """Read, or do not, as the wire and the other side allow."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.peer is None or self.peer.is_full or self.wire.is_stalled:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def reset(self) -> None:
        """Cut the connection, as a kernel does whose program is gone."""
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def _lose_peer(self, *, is_reset: bool) -> None:
        if self.peer is not None and is_reset:
            self.peer.reset()
        self._to_peer(lambda transport: transport.close())

    def _to_peer(self, act: Callable[[asyncio.Transport], None]) -> None:
        transport = self.peer.transport if self.peer is not None else None
        if transport is not None and not transport.is_closing():
            with contextlib.suppress(OSError):  # it has closed meanwhile
                act(transport)


class Front(End):
    """The side that was connected to: it opens the other one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.wire.carry(self._open)

    def _open(self) -> None:
        self._opening = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        back = End(self.wire)
        back.peer = self
        try:
            await loop.create_connection(lambda: back, self.wire.host, self.wire.target)
        except OSError:
            self.reset()
            return
        self.peer = back
        self.listen_again()
        if self.transport is None:  # it left while the other side was being opened
            back.reset()


async def obey(wires: dict[int, Wire], line: str) -> None:
    """Do what one line says; raise KeyError or ValueError when it makes no sense."""
    port, mode, *rest = line.split()
    wire = wires[int(port)]
    match mode, rest:
        case "flow", []:
            await wire.flow()
        case "slow", [delay_ms]:
            wire.delay_s = float(delay_ms) / 1000
        case "stall", []:
            wire.stall()
        case "refuse", []:
            wire.refuse()
        case _:
            raise ValueError(line)


async def run(wires: dict[int, Wire]) -> None:
    """Carry until standard input ends."""
    loop = asyncio.get_running_loop()
    for wire in wires.values():
        await wire.flow()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(READY, flush=True)
    while line := (await reader.readline()).decode().strip():
        await obey(wires, line)
        print(line, flush=True)


def wire_of(text: str) -> Wire:
    """Read ``PORT=HOST:PORT``."""
    port, _, target = text.partition("=")
    host, _, target_port = target.rpartition(":")
    return Wire(int(port), host, int(target_port))


def main() -> None:
    """Run until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wires", nargs="+", metavar="PORT=HOST:PORT", type=wire_of)
    wires = parser.parse_args().wires
    asyncio.run(run({wire.port: wire for wire in wires}))


if __name__ == "__main__":
    main()

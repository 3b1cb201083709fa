"""One end of a session: a transport, who hears from it, and who must wait for it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

WRITE_BUFFER_BYTES = 1 << 20

Chunk = bytes | memoryview


class End(asyncio.Protocol):
    """A socket's protocol whose listeners may change while it is open.

    ``on_data`` gets every chunk as it came, ``on_end`` the end of the stream or the loss of the socket, perhaps both.
    While this end cannot write, its ``source`` does not read.
    """

    def __init__(self, on_data: Callable[[bytes], None], on_end: Callable[[Exception | None], None]) -> None:
        self.on_data = on_data
        self.on_end = on_end
        self.source: End | None = None
        self.has_ended = False  # nothing more will be read
        self.closed = asyncio.Event()
        self.closed.set()  # until there is a connection
        self._transport: asyncio.Transport | None = None
        self._brakes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self.closed.clear()
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self.on_data(data)

    def eof_received(self) -> bool:
        """Called by the event loop; the socket stays open for writing where its transport can do that."""
        self.has_ended = True
        self.on_end(None)
        return self._transport is not None and self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._transport = None
        self.has_ended = True
        self.closed.set()
        self.on_end(exc)

    def pause_writing(self) -> None:
        """Called by the event loop."""
        if self.source is not None:
            self.source.brake()

    def resume_writing(self) -> None:
        """Called by the event loop."""
        if self.source is not None:
            self.source.unbrake()

    def brake(self) -> None:
        """Stop reading until as many calls of :meth:`unbrake`."""
        self._brakes += 1
        if self._brakes == 1 and self._is_open:
            assert self._transport is not None
            self._transport.pause_reading()

    def unbrake(self) -> None:
        """Take one brake back; read on when it was the last."""
        self._brakes -= 1
        if self._brakes == 0 and self._is_open:
            assert self._transport is not None
            self._transport.resume_reading()

    @property
    def unsent_bytes(self) -> int:
        """Return how much the kernel has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Send bytes; on a closed end they vanish."""
        if not self._is_open:
            return
        assert self._transport is not None
        if len(chunks) == 1:
            self._transport.write(chunks[0])
        else:
            self._transport.writelines(chunks)

    def finish(self) -> None:
        """Say that no more will come, once all that was written is sent."""
        if not self._is_open:
            return
        assert self._transport is not None
        if not self._transport.can_write_eof():  # TLS has no half-close
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the peer reset it, and the event loop has not told us yet
            self._transport.abort()

    def close(self) -> None:
        """Close after what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def _is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

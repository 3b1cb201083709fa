"""uvicorn's HTTP protocol, which waits for ever for a request that never comes to its point, with a deadline."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 20.0  # from a connection, or the first byte of a request on it, to the end of its headers


class PatientProtocol(HttpToolsProtocol):
    """Close a connection whose next request has no complete head in time: each holds a file descriptor.

    Between two requests uvicorn's own keep-alive timeout counts, and how long a request takes then is its app's affair.
    """

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self._patience is None:
            self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> Any:
        """Called by the parser."""
        self._stop_waiting()
        return super().on_headers_complete()

    def _expect_head(self) -> None:
        self._patience = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

"""A hub that serves one file and misbehaves on demand, on a real socket."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast


@dataclass
class Hub:
    """What is served and how; ``seen`` holds the headers of every request."""

    content: bytes
    break_after: list[int] = field(default_factory=list)  # bytes sent by the next replies before they break off
    ranges: bool = True
    token: str | None = None
    said_sha256: str | None = None  # on a redirect, as a hub does; the true one by default
    etag: str | None = None
    seen: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    other_url: str = ""

    @property
    def sha256(self) -> str:
        """Return the digest of what is served."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def offsets(self) -> list[str]:
        """Return the Range header of every request for the file itself."""
        return [headers.get("range", "") for headers in self.seen if headers[":path"] != "/redirect.gguf"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = cast("_Server", self.server).hub
        hub.seen.append({name.lower(): value for name, value in self.headers.items()} | {":path": self.path})
        if hub.token and self.path != "/file.gguf" and self.headers.get("authorization") != f"Bearer {hub.token}":
            self._empty(401)
        elif self.path == "/missing.gguf":
            self._empty(404)
        elif self.path == "/silent.gguf":
            self.close_connection = True
        elif self.path == "/redirect.gguf":
            self._empty(
                302, {"location": f"{hub.other_url}/file.gguf", "x-linked-etag": f'"{hub.said_sha256 or hub.sha256}"'}
            )
        else:
            self._send(hub)

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"content-length": "0"} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, hub: Hub) -> None:
        asked = self.headers.get("range", "")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and hub.ranges else 0
        rest = hub.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("content-length", str(len(rest)))
        if hub.ranges:
            self.send_header("accept-ranges", "bytes")
        if start:
            self.send_header("content-range", f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}")
        if hub.etag:
            self.send_header("etag", hub.etag)
        self.end_headers()
        # The first request of a download reads the headers only, so it may see a broken pipe here.
        limit = hub.break_after.pop(0) if hub.break_after else None
        with suppress(OSError):
            self.wfile.write(rest[:limit])
        self.close_connection = limit is not None

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve on two ports, which are two hosts to a client that must not carry a token from one to the other."""
    servers = [_Server(("127.0.0.1", 0), _Handler) for _ in range(2)]
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.hub = hub
        thread.start()
    hub.url, hub.other_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()

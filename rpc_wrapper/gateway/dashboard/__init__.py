"""The dashboard: static files beside this module, read once and served from memory. No build step, no other host.

The scripts leave as one, :mod:`bundle` joins them: asking for each cost a browser more than all the rest of the page.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

from rpc_wrapper.gateway.dashboard.bundle import bundle

PREFIX = "/dashboard/"
INDEX = "index.html"
ENTRY = "app"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing but the files below may run, and they may talk to this gateway alone (Content Security Policy Level 3).
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # ask again, and be told that nothing has changed
    "vary": "accept-encoding",
}


@dataclass(frozen=True, slots=True)
class File:
    """One file as it goes out."""

    media_type: str
    etag: str
    body: bytes
    packed: bytes

    def answer(self, request: Request) -> Response:
        """Answer a GET or HEAD, with 304 when the browser has it already."""
        headers = {**_HEADERS, "etag": self.etag, "content-type": self.media_type}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(self.body, headers=headers)
        return Response(self.packed, headers={**headers, "content-encoding": "gzip"})


def read_files(folder: Path = Path(__file__).parent) -> dict[str, File]:
    """Return what is served, by name."""
    sources = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES}
    modules = {name[:-3]: source.decode() for name, source in sources.items() if name.endswith(".js")}
    served = {name: source for name, source in sources.items() if not name.endswith(".js")}
    served[f"{ENTRY}.js"] = bundle(modules, ENTRY).encode()
    return {name: _file(Path(name).suffix, body) for name, body in served.items()}


def _file(suffix: str, body: bytes) -> File:
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    return File(_TYPES[suffix], etag, body, gzip.compress(body, mtime=0))


def add_routes(app: FastAPI, files: Mapping[str, File]) -> frozenset[str]:
    """Serve the page at ``/`` and its parts under ``/dashboard/``; return these paths."""
    paths = {"/" if name == INDEX else PREFIX + name: file for name, file in files.items()}
    for path, file in paths.items():
        app.add_api_route(path, file.answer, methods=["GET", "HEAD"], response_model=None, include_in_schema=False)
    return frozenset(paths)

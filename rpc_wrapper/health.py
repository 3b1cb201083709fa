"""Ask the service of this container or machine whether it does its work: the image's HEALTHCHECK.

``python -m rpc_wrapper.health`` runs again and again in every container, where the whole command line would cost a
second of processor time each, and the settings alone 0.2: so a service leaves word of whom to ask, where
``RPCW_HEALTH_FILE`` names a file, and the check needs the standard library and nothing else.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rpc_wrapper.errors import RPCWrapperError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rpc_wrapper.config import Settings

FILE = "RPCW_HEALTH_FILE"
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
TIMEOUT_S = 11.0  # /readyz may wait 10 s for its token


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the service is healthy, and why, in one sentence."""

    ok: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Question:
    """The URL that knows, in parts; ``tls`` are the files of CA, certificate and key."""

    host: str
    port: int
    path: str
    tls: tuple[str, str, str] | None = None

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}{self.path}"

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Return a connection that is not open yet."""
        if self.tls is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout_s, context=_context(*self.tls))


def _context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """Return how to ask an agent that demands certificates: with its own, and by address instead of name."""
    from rpc_wrapper.link.tls import Identity, client_context  # only then is it worth the time to load

    context = client_context(Identity(Path(ca), Path(cert), Path(key)))
    context.check_hostname = False
    return context


def question(settings: Settings) -> Question | None:
    """Return whom to ask; None when there is nobody, because nothing is served.

    A backend is healthy while its worker runs, busy or not, so its agent is asked and never the worker, which has
    one client at a time. A server is healthy while tokens come out.
    """
    host = ANYWHERE.get(settings.bind, settings.bind)
    match settings.mode:
        case "backend":
            return Question(host, settings.agent_port, "/healthz", _tls(settings))
        case "server":
            return Question(host, settings.port, "/readyz")
        case _:
            return None


def _tls(settings: Settings) -> tuple[str, str, str] | None:
    if settings.tls == "off" or settings.tls_ca is None or settings.tls_cert is None or settings.tls_key is None:
        return None
    return str(settings.tls_ca), str(settings.tls_cert), str(settings.tls_key)


def leave_word(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Write down whom a check should ask, where ``RPCW_HEALTH_FILE`` says; without it, or where that fails, nowhere."""
    asked = question(settings)
    if asked is not None and environ.get(FILE):
        with contextlib.suppress(OSError):  # then a check reads the settings itself
            Path(environ[FILE]).write_text(json.dumps(asdict(asked)))


def _word_left(environ: Mapping[str, str]) -> Question | None:
    try:
        word = json.loads(Path(environ[FILE]).read_text())
        return Question(**{**word, "tls": tuple(word["tls"]) if word["tls"] else None})
    except (KeyError, OSError, ValueError, TypeError):
        return None


def whom(environ: Mapping[str, str] = os.environ) -> Question | None:
    """Return whom to ask: as the service left word, else as the settings say; raise ConfigError when they are wrong."""
    if left := _word_left(environ):
        return left
    from rpc_wrapper.config import load_settings

    return question(load_settings({}).settings)


def check(asked: Question | None, timeout_s: float = TIMEOUT_S) -> Health:
    """Ask."""
    if asked is None:
        return Health(True, "APP_MODE is none: nothing is served, so nothing can be wrong")
    connection = asked.connection(timeout_s)
    try:
        connection.request("GET", asked.path)
        reply = connection.getresponse()
        body = reply.read()
    except (OSError, http.client.HTTPException) as error:
        return Health(False, f"{asked} does not answer: {error}")
    finally:
        connection.close()
    return Health(reply.status == 200, f"{asked} says {reply.status}: {_reason(body)}")


def _reason(body: bytes) -> str:
    """Return what a reply says in words, as far as it does; how far a start is says more than why it began."""
    try:
        content = json.loads(body)
        words = (content.get(name) for name in ("progress", "reason", "state", "status"))
        return str(next(filter(None, words), "no reason given"))
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace").strip() or "nothing"


def main() -> int:
    """Print the verdict on the service that the environment describes; return 0 when it is healthy, else 1."""
    try:
        health = check(whom())
    except RPCWrapperError as error:
        health = Health(False, str(error))
    print(health.reason)
    return 0 if health.ok else 1


if __name__ == "__main__":
    sys.exit(main())

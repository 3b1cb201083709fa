"""Ask the service of this container or machine whether it does its work: the image's HEALTHCHECK.

``python -m rpc_wrapper.health`` loads the settings and the standard library, nothing else: it runs every few seconds
in every container, where the whole command line would cost a second of processor time each.
"""

import http.client
import json
import ssl
import sys
from dataclasses import dataclass

from rpc_wrapper.config import Settings, load_settings
from rpc_wrapper.errors import RPCWrapperError

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
TIMEOUT_S = 11.0  # /readyz may wait 10 s for its token


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the service is healthy, and why, in one sentence."""

    ok: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Question:
    """The URL that knows, in parts."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}{self.path}"

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Return a connection that is not open yet."""
        if self.tls is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout_s, context=self.tls)


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


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Return how to ask an agent that demands certificates: with its own, and by address instead of name."""
    if settings.tls == "off" or settings.tls_ca is None or settings.tls_cert is None or settings.tls_key is None:
        return None
    from rpc_wrapper.link.tls import Identity, client_context  # only then is it worth the time to load

    context = client_context(Identity(settings.tls_ca, settings.tls_cert, settings.tls_key))
    context.check_hostname = False
    return context


def check(settings: Settings, timeout_s: float = TIMEOUT_S) -> Health:
    """Ask the service that these settings start."""
    asked = question(settings)
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
        health = check(load_settings({}).settings)
    except RPCWrapperError as error:
        health = Health(False, str(error))
    print(health.reason)
    return 0 if health.ok else 1


if __name__ == "__main__":
    sys.exit(main())

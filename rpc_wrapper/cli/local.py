"""What both roles, and the demo, need to know of this machine: free ports, certificates, the model that ships."""

import socket
from pathlib import Path

import rpc_wrapper
from rpc_wrapper.config import Settings
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.link.tls import Identity
from rpc_wrapper.supervisor import RestartPolicy

LOOPBACK = "127.0.0.1"
BACKEND_PORT = 50052
LAST_PORT = 51000


def tls_identity(settings: Settings) -> Identity | None:
    """Return this side's certificates, None when TLS is off."""
    if settings.tls == "off" or settings.tls_ca is None or settings.tls_cert is None or settings.tls_key is None:
        return None
    return Identity(settings.tls_ca, settings.tls_cert, settings.tls_key)


def restart_policy(settings: Settings) -> RestartPolicy:
    """Return when a failed child is started again; a crash loop rests for as long as the window that it shows in."""
    return RestartPolicy(
        initial_s=settings.backoff_s,
        max_s=settings.backoff_max_s,
        breaker_failures=settings.breaker_failures,
        breaker_window_s=settings.breaker_window_s,
        cooldown_s=settings.breaker_window_s,
    )


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on is reachable from this machine alone."""
    return host in ("localhost", "::1") or host.startswith("127.")


def free_port() -> int:
    """Return a loopback port that nobody listens on now; the engine keeps it over all its restarts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def free_pairs(count: int) -> list[int]:
    """Return ports of which each, and the one after it, is free on loopback: a worker's and its agent's."""
    found: list[int] = []
    port = BACKEND_PORT
    while len(found) < count:
        if port > LAST_PORT:
            raise ConfigError(
                f"no {count} free pairs of ports between {BACKEND_PORT} and {LAST_PORT}: stop what holds them"
            )
        if _is_free(port) and _is_free(port + 1):
            found.append(port)
        port += 2
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the worker and the agent do
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def demo_model() -> Path:
    """Return the model that ships with the package."""
    package = Path(rpc_wrapper.__file__).parent
    for path in (package / "demo.gguf", package.parent / "models" / "demo.gguf"):
        if path.is_file():
            return path
    raise ConfigError("models/demo.gguf is missing: give a model of your own with --model FILE.gguf")

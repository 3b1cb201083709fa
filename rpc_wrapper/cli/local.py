"""What both roles, and the demo, need to know of this machine: free ports, certificates, the model that ships."""

import random
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
# Below what kernels give to outgoing connections and to whoever asks for any port (ip_local_port_range, RFC 6335), and
# below Kubernetes' node ports: while an engine restarts, nobody takes its port by chance.
INNER_PORTS = range(20_000, 30_000)
_left = iter(random.sample(INNER_PORTS, len(INNER_PORTS)))  # none is promised twice before it is taken


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
    """Return a loopback port that nobody has now, another at each call; the engine keeps it over all its restarts."""
    for port in _left:
        if _is_free(port):
            return port
    raise ConfigError(f"no port between {INNER_PORTS[0]} and {INNER_PORTS[-1]} is free: stop what holds them")


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

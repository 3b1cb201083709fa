"""Links with networks of their own, through the command line: what is simulated on one is not on the other."""

import contextlib
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from rpc_wrapper.rpc.commands import REQUEST_HEADER, Command
from rpc_wrapper.rpc.messages import HelloRequest
from tests.engine.cluster import DEMO, Cluster, command, eventually, free_port

pytestmark = pytest.mark.engine

HOST = "127.0.0.1"
DELAY_S = 0.03


def free_pair() -> int:
    """Return a free port whose successor is free as well, for the agent."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.create_server((HOST, port)), socket.create_server((HOST, port + 1)):
            return port


@contextmanager
def cluster(folder: Path, ports: list[int], **environ: str) -> Iterator[Cluster]:
    """Run a backend on each port, and a ready server over them."""
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(backend(folder, port))
        yield stack.enter_context(server(folder, ports, **environ)).wait_ready()


@contextmanager
def backend(folder: Path, port: int) -> Iterator[Cluster]:
    settings = {"APP_PORT": str(port), "APP_MEM": "512", "APP_CACHE": "off", "APP_THREADS": "1"}
    with command(folder, port, "run", **settings) as running:
        yield running


@contextmanager
def server(folder: Path, ports: list[int], **environ: str) -> Iterator[Cluster]:
    gateway, listed = free_port(), ",".join(f"{HOST}:{port}" for port in ports)
    settings = {"APP_MODE": "server", "APP_PORT": str(gateway), "APP_MODEL": str(DEMO), "APP_RPC_BACKENDS": listed}
    settings |= {"APP_THREADS": "1", "APP_CTX_SIZE": "512", **environ}
    with command(folder, gateway, "run", **settings) as running:
        yield running


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=10):
        return True
    return False


def used(port: int, host: str) -> socket.socket | None:
    """Be a llama-server at another address of this machine; None while the worker is not up."""
    engine = socket.create_connection((HOST, port), timeout=10, source_address=(host, 0))
    with contextlib.suppress(ConnectionError):
        engine.sendall(HelloRequest().frame() + REQUEST_HEADER.pack(Command.GET_ALIGNMENT, 4) + bytes(4))
        if engine.recv(1):
            return engine
    engine.close()
    return None


def progress(running: Cluster) -> str:
    """Return how far a start is, as soon as somebody answers."""
    with contextlib.suppress(httpx.TransportError):
        return str(running.get("/readyz").json().get("progress"))
    return ""


def test_a_backend_that_serves_another_is_waited_for_and_not_blamed(tmp_path):
    port, elsewhere = free_pair(), "127.0.0.2"
    with backend(tmp_path, port):
        eventually(lambda: is_listening(port), "the gate")
        other = eventually(lambda: used(port, elsewhere), "the worker")
        with other, server(tmp_path, [port]) as running:
            words = f"{HOST}:{port} is busy: it serves another llama-server at {elsewhere}"
            eventually(lambda: words in progress(running), "a word about it")
            other.close()
            seen = running.wait_ready().get("/cluster").json()
    assert seen["generation"] == 1
    assert not any("quarantine" in entry["text"] for entry in seen["history"])


def test_each_link_has_the_network_its_override_says(tmp_path):
    far, near = free_pair(), free_pair()
    overrides = f"{HOST}:{far}+latency={DELAY_S}+mbit=200"
    with cluster(tmp_path, [far, near], APP_LINK_OVERRIDES=overrides) as running:
        running.complete("Once upon a time", n_predict=8)
        links = {int(link["endpoint"].rsplit(":", 1)[1]): link for link in running.get("/cluster").json()["links"]}
    delay_ms = DELAY_S * 1000
    assert links[far]["simulated"] == {"latency_min_ms": delay_ms, "latency_max_ms": delay_ms, "mbit_per_s": 200.0}
    assert links[near]["simulated"] is None
    assert links[far]["rtt_s"] >= 2 * DELAY_S * 0.98  # there and back
    assert links[near]["rtt_s"] < links[far]["rtt_s"] - DELAY_S


def test_an_override_takes_what_all_links_simulate_away(tmp_path):
    far, near = free_pair(), free_pair()
    delay = {"APP_LATENCY_MIN": str(DELAY_S), "APP_LATENCY_MAX": str(DELAY_S)}
    with cluster(tmp_path, [far, near], APP_LINK_OVERRIDES=f"{HOST}:{near}+latency=0", **delay) as running:
        links = {int(link["endpoint"].rsplit(":", 1)[1]): link for link in running.get("/cluster").json()["links"]}
    assert links[far]["simulated"] is not None
    assert links[near]["simulated"] is None


def test_an_override_for_nobody_ends_the_start_with_the_list(tmp_path):
    port = free_port()
    settings = {"APP_MODE": "server", "APP_MODEL": str(DEMO), "APP_RPC_BACKENDS": f"{HOST}:1", "APP_PORT": str(port)}
    with command(tmp_path, port, "run", APP_LINK_OVERRIDES=f"{HOST}:2+mbit=1", **settings) as refused:
        assert refused.process.wait(60) == 2
        assert f"names {HOST}:2, which is not one of the backends {HOST}:1" in refused.text()

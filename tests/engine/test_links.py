"""Links with networks of their own, through the command line: what is simulated on one is not on the other."""

import contextlib
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.engine.cluster import DEMO, Cluster, command, free_port

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
            backend = {"APP_PORT": str(port), "APP_MEM": "512", "APP_CACHE": "off", "APP_THREADS": "1"}
            stack.enter_context(command(folder, port, "run", **backend))
        gateway = free_port()
        listed = ",".join(f"{HOST}:{port}" for port in ports)
        server = {"APP_MODE": "server", "APP_PORT": str(gateway), "APP_MODEL": str(DEMO), "APP_RPC_BACKENDS": listed}
        server |= {"APP_THREADS": "1", "APP_CTX_SIZE": "512", **environ}
        yield stack.enter_context(command(folder, gateway, "run", **server)).wait_ready()


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

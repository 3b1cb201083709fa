"""A killed child comes back by itself, and meanwhile nobody is told that all is well."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.engine.cluster import Cluster, demo, eventually

pytestmark = pytest.mark.engine


def history(cluster: Cluster) -> list[str]:
    """Return the states the group went through."""
    return [entry["kind"] for entry in cluster.get("/cluster").json()["history"]]


@pytest.mark.parametrize("program", ["llama-server", "ggml-rpc-server"])
def test_a_killed_child_comes_back(tmp_path: Path, program: str):
    with demo(tmp_path) as cluster:
        before = cluster.complete("Once upon a time")
        workers = {argv_port(child.cmdline()) for child in cluster.children("ggml-rpc-server")}
        engine = cluster.children("llama-server")[0].pid
        cluster.children(program)[0].send_signal(signal.SIGKILL)
        eventually(lambda: not cluster.is_ready(), "an honest readyz", 5)
        eventually(cluster.is_ready, "recovery", 30)
        assert cluster.complete("Once upon a time") == before
        assert cluster.children("llama-server")[0].pid != engine
        assert {argv_port(child.cmdline()) for child in cluster.children("ggml-rpc-server")} == workers
        seen = cluster.get("/cluster").json()
        assert seen["restarts"] == 1
        assert history(cluster).count("ready") == 2
        told = " ".join(entry["text"] for entry in seen["history"])
        named = [backend["endpoint"] in told for backend in seen["backends"]]
        assert "SIGKILL" in told if program == "llama-server" else sum(named) == 1, told


def argv_port(argv: list[str]) -> str:
    """Return the port a worker was started on."""
    return argv[argv.index("--port") + 1]


def test_a_request_during_the_recovery_waits_for_it(tmp_path: Path):
    with demo(tmp_path) as cluster:
        expected = cluster.complete("The little fox")
        cluster.children("llama-server")[0].send_signal(signal.SIGKILL)
        eventually(lambda: cluster.get("/cluster").json()["state"] != "ready", "its end", 5)
        assert cluster.complete("The little fox") == expected


def test_a_restart_somebody_asked_for_does_not_wait_for_streams(tmp_path: Path):
    body = {"prompt": "The little fox", "n_predict": 400, "ignore_eos": True, "temperature": 0, "stream": True}
    with demo(tmp_path, "--exact", "true", "--stop-s", "600") as cluster, ThreadPoolExecutor(1) as pool:
        expected = streamed(cluster, body)
        answer = pool.submit(streamed, cluster, body)
        eventually(lambda: cluster.get("/cluster").json()["traffic"]["running"], "a running request", 10)
        assert cluster.post("/cluster/restart", {}).status_code == 202
        eventually(lambda: cluster.get("/cluster").json()["restarts"] and cluster.is_ready(), "the restart", 30)
        assert answer.result(60) == expected


def streamed(cluster: Cluster, body: dict[str, Any]) -> str:
    """Return the text of a streamed completion."""
    events = [line.removeprefix("data: ") for line in cluster.post("/completion", body).text.splitlines()]
    return "".join(json.loads(event)["content"] for event in events if event.startswith("{"))

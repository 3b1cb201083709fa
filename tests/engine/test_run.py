"""``rpc-wrapper run`` in each mode, as the container's entrypoint runs it."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.engine.cluster import DEMO, Cluster, command, eventually, free_port

pytestmark = pytest.mark.engine


def free_pair() -> int:
    """Return a port of which it and the next are free, below those the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000, 2)
        if _is_free(port) and _is_free(port + 1):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def agent(port: int) -> dict[str, object]:
    """Return what the agent of a backend says of it, or an empty answer while nobody listens."""
    try:
        return dict(httpx.get(f"http://127.0.0.1:{port + 1}/status", trust_env=False).json())
    except httpx.TransportError:
        return {}


def has_ended(running: Cluster) -> bool:
    """Tell whether the command is over."""
    return running.process.poll() is not None


@contextmanager
def backend(folder: Path, port: int, **environ: str) -> Iterator[Cluster]:
    """Run a ready backend on a port."""
    settings = {"APP_BIND": "127.0.0.1", "APP_PORT": str(port), "APP_THREADS": "1", **environ}
    with command(folder, port, "run", **settings) as running:
        eventually(lambda: has_ended(running) or agent(port).get("state") == "ready", "the worker's readiness")
        assert not has_ended(running), running.text()
        yield running


@contextmanager
def server(folder: Path, backends: str, **environ: str) -> Iterator[Cluster]:
    """Run a server; the caller waits for what it expects."""
    port = free_port()
    settings = {"APP_MODE": "server", "APP_BIND": "127.0.0.1", "APP_PORT": str(port), "APP_MODEL": str(DEMO)}
    with command(folder, port, "run", **settings, APP_RPC_BACKENDS=backends, **environ) as running:
        yield running


def test_a_backend_and_its_agent(tmp_path: Path):
    port = free_pair()
    with backend(tmp_path, port, APP_MEM="300") as running:
        status = agent(port)
        assert status["budget_bytes"] == 300 * 1024 * 1024
        assert status["status"] == "online"
        assert status["pid"] == running.children("ggml-rpc-server")[0].pid
        assert httpx.get(f"http://127.0.0.1:{port + 1}/healthz", trust_env=False).status_code == 200
        assert running.stop(signal.SIGTERM, deadline_s=5) == 0


def test_a_stopped_worker_is_not_healthy_until_it_is_back(tmp_path: Path):
    port = free_pair()
    with backend(tmp_path, port) as running:
        worker = running.children("ggml-rpc-server")[0]
        worker.kill()
        eventually(lambda: agent(port)["pid"] not in (worker.pid, None), "a new worker", 10)
        eventually(lambda: agent(port)["state"] == "ready", "its readiness", 10)
        assert "SIGKILL" in str(agent(port)["last_exit"])


@pytest.mark.parametrize("link", ["relay", "direct"])
def test_a_server_over_exactly_the_listed_backends(tmp_path: Path, link: str):
    first, second = free_pair(), free_pair()
    with ExitStack() as stack:
        for port in (first, second):
            stack.enter_context(backend(tmp_path, port))
        listed = f"127.0.0.1:{first},localhost:{second}"
        running = stack.enter_context(server(tmp_path, listed, APP_LINK=link)).wait_ready()
        seen = running.get("/cluster").json()
        assert ",".join(seen["listed"]) == listed
        argv = running.children("llama-server")[0].cmdline()
        rpc = argv[argv.index("--rpc") + 1].split(",")
        targets = [f"127.0.0.1:{first}", f"127.0.0.1:{second}"]
        if link == "direct":
            assert rpc == targets
        else:
            assert [link["endpoint"] for link in seen["links"]] == targets
            assert [link["address"] for link in seen["links"]] == rpc
        assert running.complete("Once upon a time")
        assert running.stop(signal.SIGTERM, deadline_s=5) == 0


def test_a_server_waits_for_its_backend_and_says_so(tmp_path: Path):
    port = free_pair()
    with server(tmp_path, f"127.0.0.1:{port}") as running:
        eventually(lambda: running.process.poll() is None and _answers(running), "the gateway", 20)
        assert running.get("/livez").status_code == 200
        refused = running.get("/readyz")
        assert refused.status_code == 503
        assert f"127.0.0.1:{port}" in refused.text
        answer = running.post("/completion", {"prompt": "a"})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert running.get("/health").json()["error"]["type"] == "unavailable_error"
        with backend(tmp_path, port):
            running.wait_ready()
            assert running.stop(signal.SIGTERM, deadline_s=5) == 0


def _answers(running: Cluster) -> bool:
    try:
        return running.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def test_a_backend_that_comes_late_is_taken_in(tmp_path: Path):
    first, second = free_pair(), free_pair()
    settings = {"APP_MIN_BACKENDS": "1", "APP_WAIT_S": "1"}
    with backend(tmp_path, first), server(tmp_path, f"127.0.0.1:{first},127.0.0.1:{second}", **settings) as running:
        running.wait_ready()
        assert len(running.get("/cluster").json()["plan"]["assignments"]) == 1
        with backend(tmp_path, second):
            eventually(lambda: len(running.get("/cluster").json()["plan"]["assignments"]) == 2, "the new plan", 30)
            running.wait_ready()
            assert running.complete("Once upon a time")
            assert running.stop() == 0


def test_a_model_that_does_not_fit_is_refused_in_mib_before_anything_starts(tmp_path: Path):
    port = free_pair()
    with backend(tmp_path, port, APP_MEM="16"), server(tmp_path, f"127.0.0.1:{port}") as running:
        assert running.process.wait(30) == 1
        assert "MiB" in running.text()
        assert "starting: " not in running.text(), "nothing may be started that cannot fit"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"APP_WAIT_S": "1"}, ["waited 1 s", "is down"]),
        ({"APP_WAIT_S": "1", "APP_RPC_BACKENDS": "no-such-host.invalid:50052"}, ["does not resolve"]),
    ],
)
def test_backends_that_never_come_end_the_start(tmp_path: Path, environ: dict[str, str], words: list[str]):
    with server(tmp_path, environ.pop("APP_RPC_BACKENDS", f"127.0.0.1:{free_port()}"), **environ) as running:
        assert running.process.wait(30) == 1
        assert all(word in running.text() for word in words), running.text()
        assert "Traceback" not in running.text()


def test_a_web_server_is_no_backend_and_is_not_waited_for(tmp_path: Path):
    port = free_port()
    web = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: _listens(port), "the web server", 10)
        with server(tmp_path, f"127.0.0.1:{port}") as running:
            assert running.process.wait(30) == 2
            assert "not an RPC server" in running.text()
    finally:
        web.kill()
        web.wait()


def _listens(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}", trust_env=False)
    except httpx.TransportError:
        return False
    return True


def test_none_idles_until_it_is_told_to_end(tmp_path: Path):
    with command(tmp_path, 0, "run", APP_MODE="none") as running:
        eventually(lambda: "idling" in running.text(), "its word", 20)
        assert running.stop(signal.SIGTERM, deadline_s=2) == 0


def test_a_taken_port_is_told_with_its_owner(tmp_path: Path):
    port = free_pair()
    with backend(tmp_path, port) as holder, command(tmp_path, port + 2, "run", APP_PORT=str(port)) as second:
        assert second.process.wait(20) == 2
        assert f"pid {holder.process.pid}" in second.text()


def test_a_killed_supervisor_leaves_no_child(tmp_path: Path):
    port = free_pair()
    with backend(tmp_path, port) as running:
        worker = running.children("ggml-rpc-server")[0]
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        eventually(lambda: not worker.is_running(), "the worker's end", 5)
        running.process.returncode = 0  # we asked for it

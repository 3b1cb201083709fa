"""Start a real cluster through the command line, as a user would, and know everything that runs under it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "models" / "demo.gguf"
DEADLINE_S = 60.0


def free_port() -> int:
    """Return a loopback port nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def eventually(claim: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Ask until the claim holds and return its value; fail with `what` when it never does."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        value = claim()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {deadline_s:g} s")


@dataclass
class Cluster:
    """One ``rpc-wrapper`` process, its log file, and the gateway's address."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    @property
    def url(self) -> str:
        """Return the gateway's address."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET from the gateway."""
        return httpx.get(self.url + path, timeout=DEADLINE_S, trust_env=False, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """POST JSON to the gateway."""
        return httpx.post(self.url + path, json=body, timeout=DEADLINE_S, trust_env=False, **options)

    def complete(self, prompt: str, n_predict: int = 24, **fields: Any) -> str:
        """Return the greedy continuation of a prompt."""
        body = {"prompt": prompt, "n_predict": n_predict, "temperature": 0, **fields}
        answer = self.post("/completion", body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["content"])

    def is_ready(self) -> bool:
        """Tell whether the gateway says that tokens come out."""
        try:
            return self.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> "Cluster":
        """Wait until it is ready; fail with its log when it ends instead."""

        def ready() -> bool:
            assert self.process.poll() is None, self.text()
            return self.is_ready()

        eventually(ready, "readiness")
        return self

    def text(self) -> str:
        """Return everything it printed."""
        return self.log.read_text(errors="replace")

    def children(self, name: str) -> list[psutil.Process]:
        """Return its running children of one program, oldest first."""
        found = [child for child in psutil.Process(self.process.pid).children(recursive=True) if name in _name(child)]
        return sorted(found, key=lambda child: child.pid)

    def stop(self, signal_number: int = signal.SIGTERM, deadline_s: float = 15.0) -> int:
        """Signal it, wait for its end, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        return self.process.wait(deadline_s)


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:1])
    except psutil.Error:
        return ""


@contextmanager
def command(folder: Path, port: int, *arguments: str, **environ: str) -> Iterator[Cluster]:
    """Run ``rpc-wrapper ARGUMENTS`` for the length of the context, and prove that nothing is left of it."""
    log = folder / f"rpc-wrapper-{port}.log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("APP_", "LLAMA_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "rpc_wrapper", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=inherited | environ,
        )
    cluster = Cluster(process, log, port)
    family: list[psutil.Process] = []
    try:
        yield cluster
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
        assert cluster.stop() in (0, 1, 2), cluster.text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    eventually(lambda: not any(child.is_running() for child in family), "the end of every child", 5)


@contextmanager
def demo(folder: Path, *arguments: str, backends: int = 2, model: Path = DEMO, **environ: str) -> Iterator[Cluster]:
    """Run a ready demo cluster."""
    port = free_port()
    options = ["demo", "--backends", str(backends), "--port", str(port), "--model", str(model), *arguments]
    with command(folder, port, *options, **environ) as cluster:
        yield cluster.wait_ready()

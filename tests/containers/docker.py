"""The docker command line, as the tests use it: one container, or one compose project, and what they say."""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.dist.yml"
DEADLINE_S = 180.0


def docker(*arguments: str, check: bool = True, environ: Mapping[str, str] | None = None) -> str:
    """Run docker and return what it prints on both streams; an error shows them."""
    run = subprocess.run(
        ["docker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environ} if environ else None,
    )
    if check and run.returncode:
        raise AssertionError(f"docker {' '.join(arguments)} ended with {run.returncode}:\n{run.stdout}")
    return run.stdout.strip()


def wait_for(what: str, condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Ask until the answer is true: docker has no call that waits for these; the deadline is an error."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline_s:g} s"
        time.sleep(0.2)


class Container:
    """A container by its id."""

    def __init__(self, ident: str) -> None:
        self.ident = ident

    def state(self) -> dict[str, Any]:
        """Return docker's State: Status, ExitCode, OOMKilled, Health."""
        state: dict[str, Any] = self.inspect()["State"]
        return state

    def inspect(self) -> dict[str, Any]:
        """Return all that docker knows."""
        found: dict[str, Any] = json.loads(docker("inspect", self.ident))[0]
        return found

    def health(self) -> str:
        """Return starting, healthy or unhealthy."""
        return str(self.state()["Health"]["Status"])

    def last_verdict(self) -> str:
        """Return what the latest health check printed; nothing before the first."""
        return "".join(str(check["Output"]) for check in self.state()["Health"]["Log"][-1:])

    def wait_healthy(self) -> None:
        """Wait until it is healthy; show its log when it ends instead."""
        wait_for("healthy", lambda: self.health() == "healthy" or self._refuse_end())

    def _refuse_end(self) -> bool:
        assert self.state()["Status"] == "running", f"it ended:\n{self.logs()}"
        return False

    def wait_end(self) -> int:
        """Wait until it ends; return its exit code."""
        return int(docker("wait", self.ident))

    def exec(self, *command: str) -> str:
        """Run a program inside."""
        return docker("exec", self.ident, *command)

    @property
    def address(self) -> str:
        """Return its address on its network, which this machine reaches."""
        networks = self.inspect()["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def logs(self) -> str:
        """Return what it printed."""
        return docker("logs", self.ident)

    def stop(self) -> float:
        """Send SIGTERM and wait; return the seconds it took."""
        began = time.monotonic()
        docker("stop", self.ident)
        return time.monotonic() - began


@contextmanager
def running(image: str, *command: str, options: Sequence[str] = (), **environ: str) -> Iterator[Container]:
    """Run a container with APP_* variables and remove it, whatever happens."""
    flags = [*(f"--env={name}={value}" for name, value in environ.items()), "--env=GOMP_SPINCOUNT"]  # tests/conftest.py
    container = Container(docker("run", "--detach", *options, *flags, image, *command).splitlines()[-1])
    try:
        yield container
    finally:
        docker("rm", "--force", "--volumes", container.ident)


def run_to_end(image: str, *command: str, options: Sequence[str] = (), **environ: str) -> tuple[int, str]:
    """Run a container until it ends; return its exit code and what it printed."""
    with running(image, *command, options=options, **environ) as container:
        return container.wait_end(), container.logs()


@contextmanager
def network() -> Iterator[str]:
    """Make a network of its own, and remove it."""
    name = f"rpcw-test-{uuid.uuid4().hex[:8]}"
    docker("network", "create", name)
    try:
        yield name
    finally:
        docker("network", "rm", name)


class Project:
    """A compose project over docker-compose.dist.yml with a name and a port of its own."""

    def __init__(self, image: str, overrides: Sequence[Path] = (), **environ: str) -> None:
        self.name = f"rpcw-test-{uuid.uuid4().hex[:8]}"
        self._files = [f"--file={path}" for path in (COMPOSE_FILE, *overrides)]
        self._environ = {"IMAGE": image, "HTTP_PORT": "0", **environ}

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run docker compose on this project."""
        command = ("compose", "--project-name", self.name, *self._files, *arguments)
        return docker(*command, check=check, environ=self._environ)

    def up(self, *options: str) -> None:
        """Start everything and wait until it is healthy."""
        self.compose("up", "--detach", "--wait", "--no-build", *options)

    def down(self) -> None:
        """Remove every trace."""
        self.compose("down", "--volumes", "--timeout", "30")

    def containers(self, service: str) -> list[Container]:
        """Return the containers of a service."""
        return [Container(ident) for ident in self.compose("ps", "--all", "--quiet", service).split()]

    @property
    def url(self) -> str:
        """Return the address of the published port; it changes when the container is started again."""
        return f"http://{self.compose('port', 'main', '8080')}"

    def cluster(self) -> dict[str, Any]:
        """Return what GET /cluster says."""
        found: dict[str, Any] = httpx.get(f"{self.url}/cluster", timeout=30).json()
        return found

    def is_ready(self) -> bool:
        """Tell whether a token comes out."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    def addresses(self) -> set[str]:
        """Return the addresses of the backends that the running llama-server uses."""
        plan = self.cluster()["plan"]
        return {one["endpoint"] for one in plan["assignments"]} if plan else set()

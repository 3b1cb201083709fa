"""The compose file, as a user meets it: up, ask, scale, lose a backend, stop."""

import json
import subprocess
import threading
from typing import Any

import httpx
import pytest

from rpc_wrapper.config import Settings
from tests.containers.docker import ROOT, Container, Project, docker, wait_for

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2700)]

SEED_PROMPT = "Building a website can be done in 10 simple steps:"


class Stream:
    """A streamed completion in a thread of its own; ``started`` is set by its first token."""

    def __init__(self, url: str, n_predict: int) -> None:
        self.started = threading.Event()
        self.events: list[dict[str, Any]] = []
        self.failure: Exception | None = None
        self._body = {"prompt": "Once upon a time", "n_predict": n_predict, "stream": True, "ignore_eos": True}
        self._thread = threading.Thread(target=self._run, args=(url,))
        self._thread.start()

    def _run(self, url: str) -> None:
        try:
            with httpx.stream("POST", f"{url}/completion", json=self._body, timeout=300) as response:
                for line in response.iter_lines():
                    if line.startswith("data: {"):
                        self.events.append(json.loads(line.removeprefix("data: ")))
                        self.started.set()
        except httpx.HTTPError as error:
            self.failure = error

    def wait_started(self) -> None:
        """Wait for the first token."""
        assert self.started.wait(60), "no token came"

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join(300)
        assert not self._thread.is_alive(), "the stream neither ended nor failed"

    @property
    def is_complete(self) -> bool:
        """Tell whether the engine said that this was all."""
        return bool(self.events) and self.events[-1].get("stop") is True


def configured(*options: str, **environ: str) -> dict[str, Any]:
    """Return the services as compose reads them."""
    command = ("compose", "--file", "docker-compose.dist.yml", *options, "config", "--format", "json")
    said = docker(*command, environ=environ)
    found: dict[str, Any] = json.loads(said[said.index("{") :])["services"]
    return found


def test_the_file_is_valid_with_and_without_cuda_and_publishes_on_loopback_only() -> None:
    for profile in ([], ["--profile", "cuda"]):
        services = configured(*profile)
        published = {
            (name, port["host_ip"], port["target"]) for name, one in services.items() for port in one.get("ports", [])
        }
        assert published == {("main", "127.0.0.1", 8080)}
        assert all(services[name]["mem_limit"] for name in ("main", "backend-cpu"))
    assert services["backend-cuda"]["profiles"] == ["cuda"]


def test_the_servers_settings_are_passed_on_if_they_are_set() -> None:
    services = configured(APP_CTX_SIZE="512", APP_REPEAT_PENALTY="1.1", GOMP_SPINCOUNT="77")
    environment = services["main"]["environment"]
    assert (environment["APP_CTX_SIZE"], environment["APP_REPEAT_PENALTY"]) == ("512", "1.1")
    assert environment["APP_PARALLEL"] is None
    assert {services[name]["environment"]["GOMP_SPINCOUNT"] for name in ("main", "backend-cpu")} == {"77"}


def test_every_setting_the_file_names_exists() -> None:
    known = {f"APP_{name.upper()}" for name in Settings.model_fields} | {"GOMP_SPINCOUNT"}
    assert all(set(service["environment"]) <= known for service in configured("--profile", "cuda").values())


def test_one_version_of_llama_cpp_is_built_for_every_image() -> None:
    services = configured("--profile", "cuda", LLAMACPP_VERSION="b9000")
    assert [one["build"]["args"]["LLAMACPP_VERSION"] for one in services.values()] == ["b9000"] * 3


def test_everything_the_file_names_is_tracked() -> None:
    for path in ("docker-compose.dist.yml", "docker/Dockerfile", "docker/Dockerfile.cuda", "models/demo.gguf"):
        assert (ROOT / path).is_file()


def test_the_seeds_request_is_answered_by_three_backends_behind_one_name(project: Project) -> None:
    answer = httpx.post(f"{project.url}/completion", json={"prompt": SEED_PROMPT, "n_predict": 32}, timeout=120)
    assert answer.status_code == 200
    assert answer.json()["content"].strip()
    cluster = project.cluster()
    assert cluster["listed"] == ["backend-cpu:50052"]
    assert len({backend["address"] for backend in cluster["backends"]}) == 3
    assert len(project.addresses()) == 3


def test_no_backend_is_published_and_each_is_hardened(project: Project) -> None:
    for container in (*project.containers("backend-cpu"), *project.containers("main")):
        found = container.inspect()
        assert found["Config"]["User"] == "10001:10001"
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
    for container in project.containers("backend-cpu"):
        assert not any(container.inspect()["NetworkSettings"]["Ports"].values())


def test_a_backend_reaches_nothing_outside_its_network(project: Project) -> None:
    backend = project.containers("backend-cpu")[0]
    route = backend.exec("cat", "/proc/net/route").splitlines()[1:]
    assert not [line for line in route if line.split()[1] == "00000000"]  # no default route


def test_a_busy_backend_stays_healthy(project: Project) -> None:
    backends = project.containers("backend-cpu")  # each has its one client: the server
    assert [backend.health() for backend in backends] == ["healthy"] * 3
    said = backends[0].exec("python", "-m", "rpc_wrapper.health")
    assert "says 200" in said


def await_everything(project: Project) -> None:
    """Wait until all three backends are back, healthy and in use: one that comes late is taken in when idle."""
    for container in project.containers("backend-cpu"):
        container.wait_healthy()
    wait_for("three backends in use", lambda: project.is_ready() and len(project.addresses()) == 3)


@pytest.mark.parametrize("fault", ["kill", "pause", "disconnect"])
def test_losing_a_backend_in_the_middle_of_an_answer_is_survived(project: Project, fault: str) -> None:
    await_everything(project)
    victim = project.containers("backend-cpu")[0]
    stream = Stream(project.url, n_predict=1500)
    stream.wait_started()
    with_fault = {
        "kill": ("kill", victim.ident),
        "pause": ("pause", victim.ident),
        "disconnect": ("network", "disconnect", f"{project.name}_cluster", victim.ident),
    }
    docker(*with_fault[fault])
    try:
        stream.join()
        assert stream.failure is None
        assert stream.is_complete, stream.events[-1:]
        wait_for("two backends in use", lambda: len(project.addresses()) == 2 and project.is_ready())
        answer = httpx.post(f"{project.url}/completion", json={"prompt": SEED_PROMPT, "n_predict": 8}, timeout=120)
        assert answer.status_code == 200
    finally:
        restore(project, victim, fault)


def restore(project: Project, victim: Container, fault: str) -> None:
    match fault:
        case "kill":
            docker("start", victim.ident)
        case "pause":
            docker("unpause", victim.ident)
        case _:
            docker("network", "connect", "--alias", "backend-cpu", f"{project.name}_cluster", victim.ident)


def test_a_stopped_server_finishes_what_it_is_saying(project: Project) -> None:
    await_everything(project)
    stream = Stream(project.url, n_predict=400)
    stream.wait_started()
    main = project.containers("main")[0]
    took_s = main.stop()
    stream.join()
    assert stream.is_complete, stream.events[-1:]
    assert took_s < 140
    assert main.state()["ExitCode"] == 0


def test_the_smoke_script_asks_everything(image: str) -> None:
    command = [ROOT / "scripts" / "smoke", ROOT / "models" / "demo.gguf"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**ENVIRON, "IMAGE": image})
    assert run.returncode == 0, run.stdout + run.stderr
    assert "answers over 1 backend(s)" in run.stdout


ENVIRON = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp"}

"""The compose example with mutual TLS: a key for each service, and no way in without one."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.containers.docker import COMPOSE_FILE, ROOT, Project, docker

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2700)]

TLS_FILE = ROOT / "docker" / "compose.tls.yml"
PLAIN = ("exec", "-T", "-e", "APP_TLS=off", "main", "rpc-wrapper", "probe", "--json", "backend-cpu:50052")


@pytest.fixture(scope="module")
def certs(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return certificates made by the command that the file's first lines show."""
    folder = tmp_path_factory.mktemp("certs")
    found = re.search(
        r"--entrypoint rpc-wrapper rpc-wrapper \\\n# +(certs init .*) --output /certs\n", TLS_FILE.read_text()
    )
    assert found is not None
    user = ("run", "--rm", "--user", "0", "--volume", f"{folder}:/certs", "--entrypoint", "rpc-wrapper", image)
    docker(*user, *found[1].split(), "--output", "/certs")
    return folder


@pytest.fixture(scope="module")
def project(image: str, certs: Path) -> Iterator[Project]:
    """Return a project of two backends that speak nothing but TLS, up and healthy."""
    found = Project(image, [TLS_FILE], CERTS_DIR=str(certs))
    try:
        found.up("--scale", "backend-cpu=2")
        yield found
    finally:
        found.down()


def test_the_files_are_valid_together() -> None:
    docker("compose", f"--file={COMPOSE_FILE}", f"--file={TLS_FILE}", "--profile", "cuda", "config", "--quiet")


def test_each_service_has_its_own_key_and_no_other(project: Project, certs: Path) -> None:
    for service in ("main", "backend-cpu"):
        for container in project.containers(service):
            assert sorted(container.exec("ls", "/run/secrets").split()) == ["ca.crt", "own.crt", "own.key"]
            assert container.exec("cat", "/run/secrets/own.key") == (certs / f"{service}.key").read_text().strip()


def test_the_cluster_answers_over_tls_alone(project: Project) -> None:
    answer = httpx.post(f"{project.url}/completion", json={"prompt": "Once upon a time", "n_predict": 16}, timeout=120)
    assert answer.status_code == 200
    assert answer.json()["content"].strip()
    backends = project.cluster()["backends"]
    assert [backend["agent"] for backend in backends] == ["ready", "ready"]  # so the agents were asked over TLS, too


def test_who_shows_no_certificate_is_refused(project: Project) -> None:
    said = project.compose(*PLAIN, check=False)
    lines = json.loads(said[said.index("[") : said.rindex("]") + 1])
    assert [line["state"] for line in lines] == ["down"] * 2
    assert all("it demands TLS" in line["detail"] and line["agent"] is None for line in lines)
    assert "it does not speak TLS" in project.compose("logs", "backend-cpu")


def test_inside_the_server_every_command_has_the_certificate(project: Project) -> None:
    said = project.compose("exec", "-T", "main", "rpc-wrapper", "probe", "--json", "backend-cpu:50052")
    assert [line["state"] for line in json.loads(said[said.index("[") :])] == ["busy", "busy"]  # main holds them

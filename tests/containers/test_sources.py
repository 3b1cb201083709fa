"""LLAMACPP_VERSION and LLAMACPP_REPO: a tag, a branch, a commit, from any git server."""

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.docker import ROOT, docker, wait_for

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Repository:
    """A git repository behind a server of its own, with one commit per way to name it."""

    url: str
    commits: dict[str, str]


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=trunk")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    folder = tmp_path_factory.mktemp("git")
    work = folder / "llama.cpp"
    work.mkdir()
    git(work, "init")
    commits = {}
    for name in ("old", "b1234", "feature"):
        (work / "CMakeLists.txt").write_text(f"# {name}\n")
        git(work, "add", ".")
        git(work, "commit", "--message", name)
        commits[name] = git(work, "rev-parse", "HEAD")
        if name == "b1234":
            git(work, "tag", name)
    git(work, "branch", "feature")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "git",
        "daemon",
        "--export-all",
        "--listen=127.0.0.1",
        f"--port={port}",
        f"--base-path={folder}",
        "--reuseaddr",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
        wait_for("git daemon", lambda: is_open(port))
        yield Repository(f"git://127.0.0.1:{port}/llama.cpp", commits)
        daemon.terminate()


def arguments(repository: Repository, version: str) -> dict[str, str]:
    return {"LLAMACPP_VERSION": version, "LLAMACPP_REPO": repository.url}


def fetch(repository: Repository, version: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script of the image's first stage, which needs nothing but git here."""
    command = [ROOT / "docker" / "fetch-engine", folder, ROOT / "pyproject.toml"]
    environ = {"PATH": "/usr/bin:/bin", **arguments(repository, version)}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environ)


@pytest.mark.parametrize(
    ("commit", "shorten"),
    [("b1234", None), ("feature", None), ("old", 40), ("old", 10)],
    ids=["tag", "branch", "commit", "short"],
)
def test_the_source_can_be_a_tag_a_branch_or_a_commit(
    repository: Repository, commit: str, shorten: int | None, tmp_path: Path
) -> None:
    expected = repository.commits[commit]
    fetched = fetch(repository, expected[:shorten] if shorten else commit, tmp_path / "out")
    assert fetched.returncode == 0, fetched.stderr
    assert expected.startswith((tmp_path / "out" / "COMMIT").read_text().strip())
    assert (tmp_path / "out" / "CMakeLists.txt").read_text() == f"# {commit}\n"
    assert not (tmp_path / "out" / ".git").exists()


def test_a_version_that_does_not_exist_ends_the_build(repository: Repository, tmp_path: Path) -> None:
    assert fetch(repository, "no-such-version", tmp_path / "out").returncode != 0


def test_a_repository_without_a_version_is_refused_and_not_ignored(repository: Repository, tmp_path: Path) -> None:
    refused = fetch(repository, "", tmp_path / "out")
    assert refused.returncode == 1
    assert f"LLAMACPP_REPO={repository.url} alone" in refused.stderr
    assert "LLAMACPP_VERSION" in refused.stderr


def test_the_build_arguments_reach_the_first_stage(repository: Repository) -> None:
    flags = [f"--build-arg={name}={value}" for name, value in arguments(repository, "b1234").items()]
    docker(
        "build", "--file=docker/Dockerfile", "--target=source", "--network=host", "--output=type=cacheonly", *flags, "."
    )
    wrong = [f"--build-arg={name}={value}" for name, value in arguments(repository, "no-such-version").items()]
    with pytest.raises(AssertionError, match="no-such-version"):
        docker(
            "build",
            "--file=docker/Dockerfile",
            "--target=source",
            "--network=host",
            "--output=type=cacheonly",
            *wrong,
            ".",
        )

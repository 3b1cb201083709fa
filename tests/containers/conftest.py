"""The image under test: built once per run, with the engine that docker/build keeps; or RPCW_TEST_IMAGE, as it is."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.containers.docker import ROOT, Project

IMAGE = "rpc-wrapper:test"


@pytest.fixture(scope="session")
def image() -> str:
    """Return the image's name."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.fail("no Docker engine answers: start one, or leave out -m containers")
    given = os.environ.get("RPCW_TEST_IMAGE")
    if given:
        return given
    built = subprocess.run([ROOT / "docker" / "build", IMAGE], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    return IMAGE


@pytest.fixture(scope="module")
def project(image: str) -> Iterator[Project]:
    """Return a project with three CPU backends, up and healthy."""
    found = Project(image, APP_DRAIN_S="120", MAIN_STOP_GRACE="150s")  # a busy machine may need long for an answer
    try:
        found.up("--scale", "backend-cpu=3")
        yield found
    finally:
        found.down()

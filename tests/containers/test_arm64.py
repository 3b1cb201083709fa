"""The arm64 image answers, under emulation. Slow, so only if RPCW_TEST_ARM64 is set.

Needs a base image for arm64, and qemu registered for its programs.
"""

import os
import subprocess
from contextlib import ExitStack

import httpx
import pytest

from tests.containers.docker import ROOT, Container, network, running, wait_for

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not os.environ.get("RPCW_TEST_ARM64"), reason="emulated and slow: set RPCW_TEST_ARM64=1"),
]

IMAGE = "rpc-wrapper:test-arm64"
PLATFORM = "linux/arm64"
DEADLINE_S = 900.0  # everything is many times slower


@pytest.fixture(scope="module")
def arm64_image() -> str:
    built = subprocess.run([ROOT / "docker/build", IMAGE, PLATFORM], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    return IMAGE


def is_ready(server: Container) -> bool:
    assert server.state()["Status"] == "running", server.logs()
    try:
        return httpx.get(f"http://{server.address}:8080/readyz", timeout=60).is_success
    except httpx.TransportError:
        return False


def test_a_server_answers_over_a_backend(arm64_image: str) -> None:
    served = {"APP_MODE": "server", "APP_MODEL": "/app/models/demo.gguf", "APP_RPC_BACKENDS": "lender:50052"}
    with ExitStack() as stack:
        emulated = (f"--platform={PLATFORM}", f"--network={stack.enter_context(network())}")
        lender = (*emulated, "--network-alias=lender")
        backend = stack.enter_context(running(arm64_image, options=lender))
        server = stack.enter_context(running(arm64_image, options=emulated, APP_WAIT_S="600", **served))
        wait_for("a token", lambda: is_ready(server), DEADLINE_S)
        assert backend.exec("uname", "-m") == "aarch64"
        body = {"prompt": "Once upon a time", "n_predict": 16, "temperature": 0}
        answer = httpx.post(f"http://{server.address}:8080/completion", json=body, timeout=DEADLINE_S).json()
        assert answer["tokens_predicted"] == 16
        assert answer["content"].strip()
        cluster = httpx.get(f"http://{server.address}:8080/cluster", timeout=60).json()
        assert [one["endpoint"] for one in cluster["plan"]["assignments"]] == [f"{backend.address}:50052"]

"""A backend that demands certificates, asked through the command line: who is let in, and what the others learn."""

import contextlib
import datetime
import json
import os
import random
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from rpc_wrapper.link.certificates import Pair, Validity, make_ca, make_leaf
from rpc_wrapper.link.tls import Identity, client_context
from tests.engine.cluster import DEMO, Cluster, command, eventually, free_port

pytestmark = pytest.mark.engine

NOW = datetime.datetime.now(datetime.UTC)
VALID = Validity.days(1, NOW)
EXPIRED = Validity(NOW - datetime.timedelta(days=9), NOW - datetime.timedelta(days=1))
HOST = "127.0.0.1"
OUR_CA = make_ca(VALID)
OTHER_CA = make_ca(VALID)
OURS = make_leaf(OUR_CA, "main", VALID)
THEIRS = make_leaf(OUR_CA, HOST, VALID)


def identity(folder: Path, leaf: Pair) -> dict[str, str]:
    """Write a certificate, its key and our CA's certificate; return the settings that name them."""
    folder.mkdir()
    cert, key = leaf.write(folder, "own")
    ca, ca_key = OUR_CA.write(folder, "ca")
    ca_key.unlink()
    return {"APP_TLS": "require", "APP_TLS_CA": str(ca), "APP_TLS_CERT": str(cert), "APP_TLS_KEY": str(key)}


def files(settings: dict[str, str]) -> Identity:
    """Return the files that settings name."""
    return Identity(*(Path(settings[f"APP_TLS_{name}"]) for name in ("CA", "CERT", "KEY")))


@contextmanager
def backend(folder: Path, port: int, leaf: Pair) -> Iterator[Cluster]:
    """Run a backend that shows this certificate, until its worker is up."""
    options = ["--bind", HOST, "--port", str(port), "--agent-port", str(port + 1), "--mem", "512", "--cache", "off"]
    with command(folder, port, "run", *options, **identity(folder / "backend", leaf)) as running:
        eventually(lambda: running.process.poll() or "answers HELLO" in running.text(), "the worker's answer")
        assert running.process.poll() is None, running.text()
        yield running


def ask(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``rpc-wrapper ARGUMENTS`` to its end."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("APP_", "LLAMA_"))}
    return subprocess.run(
        [sys.executable, "-m", "rpc_wrapper", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=inherited | environ,
    )


@pytest.fixture
def port() -> int:
    """Return a free port whose successor is free as well, for the agent."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.create_server((HOST, port)), socket.create_server((HOST, port + 1)):
            return port


def test_every_command_that_asks_backends_does_so_over_tls(tmp_path, port):
    endpoint = f"{HOST}:{port}"
    ours = identity(tmp_path / "ours", OURS)
    with backend(tmp_path, port, THEIRS):
        found = ask("probe", endpoint, "--json", **ours)
        assert found.returncode == 0, found.stdout
        (line,) = json.loads(found.stdout)
        assert (line["state"], line["agent"]["budget_bytes"]) == ("ok", 512 << 20)

        planned = ask("plan", str(DEMO), "--rpc", endpoint, "--json", **ours)
        assert planned.returncode == 0, planned.stderr
        assert {each["endpoint"] for each in json.loads(planned.stdout)["assignments"]} == {endpoint}

        timed = ask("inspect", str(DEMO), "--benchmark", "--rpc", endpoint, "--json", **ours)
        assert timed.returncode == 0, timed.stderr
        assert [each["endpoint"] for each in json.loads(timed.stdout)] == [endpoint]

        examined = ask("doctor", "--json", "--rpc", endpoint, **ours)
        findings = {(each["section"], each["subject"]): each for each in json.loads(examined.stdout)["findings"]}
        assert findings["backends", endpoint]["verdict"] == "ok"
        assert findings["certificates", "names"]["value"] == "main"


def test_the_files_can_be_given_as_options(tmp_path, port):
    ours = identity(tmp_path / "ours", OURS)
    given = [word for name, value in ours.items() for word in (f"--{name[4:].lower().replace('_', '-')}", value)]
    with backend(tmp_path, port, THEIRS):
        assert ask("probe", f"{HOST}:{port}", *given).returncode == 0


CLIENTS = {
    "expired": (make_leaf(OUR_CA, "main", EXPIRED), "its certificate has expired"),
    "foreign": (make_leaf(OTHER_CA, "main", VALID), "its certificate comes from another CA"),
    "self-signed": (make_ca(VALID), "its certificate is self-signed"),
}


@pytest.mark.parametrize("case", CLIENTS)
def test_the_agent_s_log_says_what_is_wrong_with_a_certificate(case, tmp_path, port):
    leaf, reason = CLIENTS[case]
    with backend(tmp_path, port, THEIRS) as running:
        refused = ask("probe", f"{HOST}:{port}", **identity(tmp_path / "ours", leaf))
        assert refused.returncode == 1
        assert "refuses our certificate" in refused.stdout or "our certificate" in refused.stdout, refused.stdout
        eventually(lambda: f"turned away {HOST}: {reason}" in running.text(), f"{reason!r} in the log")


def test_who_speaks_no_tls_is_told_so_on_both_sides(tmp_path, port):
    with backend(tmp_path, port, THEIRS) as running:
        refused = ask("probe", f"{HOST}:{port}")
        assert refused.returncode == 1
        assert "APP_TLS=require" in refused.stdout
        eventually(lambda: "it does not speak TLS" in running.text(), "the reason in the log")


def test_who_shows_no_certificate_stands_in_the_log(tmp_path, port):
    stranger = ssl.create_default_context(cafile=identity(tmp_path / "ours", OURS)["APP_TLS_CA"])
    with backend(tmp_path, port, THEIRS) as running:
        with (
            socket.create_connection((HOST, port)) as sock,
            stranger.wrap_socket(sock, server_hostname=HOST) as tls,
            contextlib.suppress(OSError),
        ):
            assert tls.recv(1) == b""
        eventually(lambda: f"turned away {HOST}: it showed no certificate" in running.text(), "the reason in the log")


BACKENDS = {
    "expired": (make_leaf(OUR_CA, HOST, EXPIRED), "its certificate has expired"),
    "foreign": (make_leaf(OTHER_CA, HOST, VALID), "its certificate comes from another CA"),
    "self-signed": (make_ca(VALID), "its certificate is self-signed"),
    "wrong name": (make_leaf(OUR_CA, "backend-gpu", VALID), "its certificate is for another address"),
}


@pytest.mark.parametrize("case", BACKENDS)
def test_a_backend_with_a_bad_certificate_is_refused_with_the_reason(case, tmp_path, port):
    leaf, reason = BACKENDS[case]
    ours = identity(tmp_path / "ours", OURS)
    with backend(tmp_path, port, leaf):
        probed = ask("probe", f"{HOST}:{port}", **ours)
        assert probed.returncode == 1
        assert reason in probed.stdout
        planned = ask("plan", str(DEMO), "--rpc", f"{HOST}:{port}", **ours)
        assert planned.returncode == 2
        assert reason in planned.stderr


def test_a_missing_certificate_is_an_error_before_anything_is_asked(tmp_path):
    ours = identity(tmp_path / "ours", OURS)
    refused = ask("probe", "127.0.0.1:1", **{**ours, "APP_TLS_CERT": str(tmp_path / "nowhere.crt")})
    assert refused.returncode == 2
    assert "APP_TLS_CERT" in refused.stderr
    assert "nowhere.crt" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_agent_demands_a_certificate_too(tmp_path, port):
    ours = identity(tmp_path / "ours", OURS)
    url = f"https://{HOST}:{port + 1}/status"
    with backend(tmp_path, port, THEIRS):
        with httpx.Client(verify=client_context(files(ours)), trust_env=False) as client:
            assert client.get(url).json()["state"] == "ready"
        stranger = ssl.create_default_context(cafile=ours["APP_TLS_CA"])
        with httpx.Client(verify=stranger, trust_env=False) as client, pytest.raises(httpx.TransportError):
            client.get(url)
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"), trust_env=False)
        checked = ask("health", APP_MODE="backend", APP_BIND=HOST, APP_PORT=str(port), **ours)
        assert checked.returncode == 0, checked.stdout


def test_a_server_answers_over_backends_it_reaches_by_tls_alone(tmp_path, port):
    gateway = free_port()
    server = {"APP_MODE": "server", "APP_PORT": str(gateway), "APP_MODEL": str(DEMO), "APP_CTX_SIZE": "512"}
    server |= {"APP_RPC_BACKENDS": f"{HOST}:{port}", "APP_THREADS": "1", **identity(tmp_path / "ours", OURS)}
    with backend(tmp_path, port, THEIRS), command(tmp_path, gateway, "run", **server) as running:
        assert running.wait_ready().complete("Once upon a time", n_predict=16).strip()
        (found,) = running.get("/cluster").json()["backends"]
        assert (found["agent"], found["budget_mib"]) == ("ready", 512)


def test_a_server_whose_certificate_is_refused_says_so(tmp_path, port):
    gateway = free_port()
    leaf, reason = CLIENTS["expired"]
    server = {"APP_MODE": "server", "APP_PORT": str(gateway), "APP_MODEL": str(DEMO), "APP_WAIT_S": "1"}
    server |= {"APP_RPC_BACKENDS": f"{HOST}:{port}", **identity(tmp_path / "ours", leaf)}
    with backend(tmp_path, port, THEIRS) as lender, command(tmp_path, gateway, "run", **server) as refused:
        assert refused.process.wait(60) == 1
        assert "it refuses our certificate, and its log says why" in refused.text()
        assert reason in lender.text()

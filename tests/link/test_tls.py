"""Who is let in and who is not, and that the refusal says why; a link against a TLS listener in front of a worker."""

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.link.certificates import Pair, Validity, make_ca, make_leaf
from rpc_wrapper.link.events import Lost
from rpc_wrapper.link.relay import Link, LinkOptions
from rpc_wrapper.link.session import Security
from rpc_wrapper.link.tls import Identity, client_context, explain, server_context
from rpc_wrapper.rpc import ProbeState, Tls, probe
from tests.fakes.rpc_server import FakeWorker, Options
from tests.link.wire import Events

NOW = datetime.datetime.now(datetime.UTC)
VALID = Validity.days(1, NOW)
EXPIRED = Validity(NOW - datetime.timedelta(days=9), NOW - datetime.timedelta(days=1))
HOST = "127.0.0.1"
OUR_CA = make_ca(VALID)
FOREIGN_CA = make_ca(VALID)


def identity(directory: Path, leaf: Pair, ca: Pair = OUR_CA) -> Identity:
    directory.mkdir(exist_ok=True)
    ca_cert, _ = ca.write(directory, "ca")
    return Identity(ca_cert, *leaf.write(directory, "leaf"))


@contextlib.asynccontextmanager
async def tls_worker(context: ssl.SSLContext) -> AsyncIterator[Endpoint]:
    worker = FakeWorker(Options())
    server = await asyncio.start_server(worker.accept, HOST, 0, ssl=context, ssl_handshake_timeout=5)
    try:
        yield Endpoint(HOST, server.sockets[0].getsockname()[1])
    finally:
        server.close()


class AlertingServer(threading.Thread):
    """A listener that tells a refused peer why, as TLS provides; asyncio's own listener just hangs up."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context
        self._listener = socket.create_server((HOST, 0))
        self.endpoint = Endpoint(HOST, self._listener.getsockname()[1])

    def run(self) -> None:
        sock, _ = self._listener.accept()
        with self._listener, sock.dup() as raw, contextlib.suppress(ConnectionError):
            with contextlib.suppress(ssl.SSLError):
                self._context.wrap_socket(sock, server_side=True)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):  # closed over unread bytes, the connection would be reset, and the alert with it
                pass

    def __enter__(self) -> "AlertingServer":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.join()


async def loss(endpoint: Endpoint, security: Security) -> str:
    """Return why a link to the endpoint fails."""
    events = Events()
    async with Link(endpoint, LinkOptions(security=security), events.tell) as link:
        result = await probe(link.address, timeout_s=10)
        assert result.state is not ProbeState.OK
        return (await events.first(Lost)).reason


@pytest.fixture
def ours(tmp_path: Path) -> ssl.SSLContext:
    return client_context(identity(tmp_path / "ours", make_leaf(OUR_CA, "main", VALID)))


async def test_both_with_a_certificate_of_the_ca_work(tmp_path, ours):
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, HOST, VALID)))
    options = LinkOptions(security=Security(ours, HOST))
    async with tls_worker(theirs) as endpoint, Link(endpoint, options) as link:
        result = await probe(link.address, timeout_s=10)
        assert result.state is ProbeState.OK


BACKENDS = {
    "expired": (make_leaf(OUR_CA, HOST, EXPIRED), "expired"),
    "foreign": (make_leaf(FOREIGN_CA, HOST, VALID), "another CA"),
    "self-signed": (make_ca(VALID), "self-signed"),
    "wrong address": (make_leaf(OUR_CA, "127.0.0.2", VALID), "another address"),
}


@pytest.mark.parametrize("case", BACKENDS)
async def test_a_backend_with_a_bad_certificate_is_refused_with_the_reason(case, tmp_path, ours):
    leaf, reason = BACKENDS[case]
    async with tls_worker(server_context(identity(tmp_path / "theirs", leaf))) as endpoint:
        assert reason in await loss(endpoint, Security(ours, HOST))


async def test_a_backend_under_another_name_is_refused(tmp_path, ours):
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, "backend-gpu", VALID)))
    async with tls_worker(theirs) as endpoint:
        assert "another name" in await loss(endpoint, Security(ours, "backend-cpu"))


CLIENTS = {
    "expired": (make_leaf(OUR_CA, "main", EXPIRED), "our certificate has expired"),
    "foreign": (make_leaf(FOREIGN_CA, "main", VALID), "same APP_TLS_CA"),
    "self-signed": (make_ca(VALID), "same APP_TLS_CA"),
}


@pytest.mark.parametrize("case", CLIENTS)
async def test_a_server_with_a_bad_certificate_learns_the_reason(case, tmp_path):
    leaf, reason = CLIENTS[case]
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, HOST, VALID)))
    ours = client_context(identity(tmp_path / "ours", leaf))
    with AlertingServer(theirs) as server:
        assert reason in await loss(server.endpoint, Security(ours, HOST))


async def test_a_probe_whose_certificate_is_refused_says_that_and_not_that_nobody_speaks_rpc(tmp_path):
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, HOST, VALID)))
    ours = client_context(identity(tmp_path / "ours", make_leaf(OUR_CA, "main", EXPIRED)))
    async with tls_worker(theirs) as endpoint:
        result = await probe(endpoint, timeout_s=10, tls=Tls(ours, HOST, explain))
    assert result.state is ProbeState.DOWN
    assert "refuses our certificate" in result.detail


async def test_a_probe_without_tls_is_told_to_use_it(tmp_path):
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, HOST, VALID)))
    async with tls_worker(theirs) as endpoint:
        result = await probe(endpoint, timeout_s=10)
    assert "APP_TLS=require" in result.detail


async def test_a_refusal_without_a_reason_is_still_recognised(tmp_path):
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, HOST, VALID)))
    ours = client_context(identity(tmp_path / "ours", make_leaf(OUR_CA, "main", EXPIRED)))
    async with tls_worker(theirs) as endpoint:
        assert "refuses our certificate" in await loss(endpoint, Security(ours, HOST))


async def test_a_server_without_a_certificate_learns_that_one_is_needed(tmp_path):
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, HOST, VALID)))
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.load_verify_locations(tmp_path / "theirs" / "ca.crt")
    with AlertingServer(theirs) as server:
        assert "demands a certificate" in await loss(server.endpoint, Security(ours, HOST))


async def test_a_backend_that_speaks_no_tls_is_told_apart(ours):
    worker = FakeWorker(Options())
    server = await asyncio.start_server(worker.accept, HOST, 0)
    try:
        endpoint = Endpoint(HOST, server.sockets[0].getsockname()[1])
        assert "TLS" in await loss(endpoint, Security(ours, HOST))
    finally:
        server.close()


def test_tls_1_2_is_not_spoken(ours):
    assert ours.minimum_version is ssl.TLSVersion.TLSv1_3


def test_missing_and_wrong_files_are_named(tmp_path):
    good = identity(tmp_path / "good", make_leaf(OUR_CA, HOST, VALID))
    with pytest.raises(ConfigError, match=r"APP_TLS_CA: .*nowhere"):
        client_context(Identity(tmp_path / "nowhere", good.cert, good.key))
    with pytest.raises(ConfigError, match="APP_TLS_KEY"):
        client_context(Identity(good.ca, good.cert, tmp_path / "nowhere"))
    other = identity(tmp_path / "other", make_leaf(OUR_CA, HOST, VALID))
    with pytest.raises(ConfigError, match="does not belong"):
        server_context(Identity(good.ca, good.cert, other.key))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ConfigError, match="PEM"):
        server_context(Identity(tmp_path / "text", good.cert, good.key))


def test_other_errors_are_said_plainly():
    assert explain(ConnectionResetError(104, "Connection reset by peer")) == "Connection reset by peer"
    assert explain(TimeoutError()) == "TimeoutError"

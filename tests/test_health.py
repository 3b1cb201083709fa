"""The question that the image's HEALTHCHECK asks, by mode, of a real HTTP server."""

import datetime
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from rpc_wrapper.config import Settings
from rpc_wrapper.health import FILE, check, leave_word, main, question, whom
from rpc_wrapper.link.certificates import Validity, make_ca, make_leaf
from rpc_wrapper.link.tls import Identity, server_context


def settings_of(**values: object) -> Settings:
    return Settings.model_validate(values)


@contextmanager
def answering(replies: dict[str, tuple[int, bytes]], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer each path as told; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = replies[self.path]
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        (settings_of(), "http://127.0.0.1:50053/healthz"),
        (settings_of(bind="0.0.0.0"), "http://127.0.0.1:50053/healthz"),
        (settings_of(port=6000), "http://127.0.0.1:6001/healthz"),
        (settings_of(agent_port=7000, bind="10.1.2.3"), "http://10.1.2.3:7000/healthz"),
        (settings_of(mode="server"), "http://127.0.0.1:8080/readyz"),
        (settings_of(mode="server", bind="0.0.0.0", port=9000), "http://127.0.0.1:9000/readyz"),
    ],
)
def test_who_is_asked_depends_on_the_mode(settings: Settings, asked: str) -> None:
    assert str(question(settings)) == asked


def test_mode_none_serves_nothing_and_is_healthy() -> None:
    assert check(question(settings_of(mode="none"))).ok


def test_a_worker_that_answers_is_healthy() -> None:
    with answering({"/healthz": (200, b'{"ok": true, "state": "ready", "reason": "answers"}')}) as port:
        health = check(question(settings_of(port=port - 1, agent_port=port)))
    assert (health.ok, health.reason) == (True, f"http://127.0.0.1:{port}/healthz says 200: answers")


def test_an_agent_that_demands_certificates_is_shown_its_own(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ca = make_ca(Validity.days(1, now))
    ca_file, _ = ca.write(tmp_path, "ca")
    cert, key = make_leaf(ca, "backend-cpu", Validity.days(1, now)).write(tmp_path, "backend")
    with answering({"/healthz": (200, b'{"reason": "answers"}')}, server_context(Identity(ca_file, cert, key))) as port:
        files = {"tls": "require", "tls_ca": ca_file, "tls_cert": cert, "tls_key": key}
        health = check(question(settings_of(port=port - 1, agent_port=port, **files)))
    assert (health.ok, health.reason) == (True, f"https://127.0.0.1:{port}/healthz says 200: answers")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"reason": "backend-cpu:50052 refuses", "state": "waiting"}', "backend-cpu:50052 refuses"),
        (
            b'{"state": "preparing", "reason": "preparing", "progress": "waiting: a:1 is down", "missing": ["a:1"]}',
            "waiting: a:1 is down",
        ),
        (b'{"reason": "it is being drained", "state": "ready", "progress": ""}', "it is being drained"),
        (b'{"state": "backoff"}', "backoff"),
        (b"[]", "[]"),
        (b"no json", "no json"),
        (b"", "nothing"),
    ],
)
def test_a_server_that_is_not_ready_is_unhealthy_and_says_why(body: bytes, reason: str) -> None:
    with answering({"/readyz": (503, body)}) as port:
        health = check(question(settings_of(mode="server", port=port)))
    assert not health.ok
    assert health.reason.endswith(f"says 503: {reason}")


def test_nobody_there_is_unhealthy() -> None:
    with answering({}) as port:
        pass
    health = check(question(settings_of(mode="server", port=port)))
    assert not health.ok
    assert "does not answer" in health.reason


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with answering({"/readyz": (200, b'{"status": "ready"}')}) as port:
        monkeypatch.setenv("APP_MODE", "server")
        monkeypatch.setenv("APP_PORT", str(port))
        assert main() == 0
    assert capsys.readouterr().out.endswith("says 200: ready\n")
    assert main() == 1


@pytest.mark.parametrize("extra", [{}, {"tls": "require", "tls_ca": "ca", "tls_cert": "cert", "tls_key": "key"}])
def test_a_service_leaves_word_of_whom_to_ask(tmp_path: Path, extra: dict[str, str]) -> None:
    environ, settings = {FILE: str(tmp_path / "health.json")}, settings_of(port=6000, **extra)
    leave_word(settings, environ)
    assert whom(environ) == question(settings)
    assert str(whom(environ)) == str(question(settings))


@pytest.mark.parametrize("word", ["", "[]", '{"host": "127.0.0.1"}', "null"])
def test_word_that_cannot_be_read_is_as_none(tmp_path: Path, word: str) -> None:
    (tmp_path / "health.json").write_text(word)
    assert whom({FILE: str(tmp_path / "health.json")}) == question(settings_of())


def test_where_word_cannot_be_left_the_service_starts_all_the_same(tmp_path: Path) -> None:
    leave_word(settings_of(), {FILE: str(tmp_path / "missing" / "health.json")})
    leave_word(settings_of(), {})


def test_a_wrong_setting_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("APP_MODE", "worker")
    assert main() == 1
    assert "worker" in capsys.readouterr().out

"""Logs say what happened and never a secret."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpc_wrapper import logs
from rpc_wrapper.logs import Redactor, RingBuffer, redact_argv, set_up_logging


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(logs, "redact", Redactor())
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level


def test_ring_buffer_keeps_the_newest():
    ring = RingBuffer(3)
    for number in range(5):
        ring.append(str(number))
    assert (list(ring), len(ring), ring.last(2), ring.last(9), ring.last(0)) == (
        ["2", "3", "4"],
        3,
        ("3", "4"),
        ("2", "3", "4"),
        (),
    )


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("key sesame opens", "key *** opens"),
        ("key sesame-long opens", "key *** opens"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("{'x-api-key': 'abc'}", "{'x-api-key': '***'}"),
        ("--api-key abc --port 1", "--api-key *** --port 1"),
        ("--api-key=abc", "--api-key=***"),
        ("nothing here, Bearer of news", "nothing here, Bearer *** news"),
        ("日本語 🦙", "日本語 🦙"),
    ],
)
def test_redaction(text: str, hidden: str) -> None:
    assert Redactor(["sesame", "", "sesame-long"])(text) == hidden


def test_argv_is_redacted_by_flag():
    argv = ("server", "--api-key", "abc def", "--hf-token=xyz", "--port", "1")
    assert redact_argv(argv) == ("server", "--api-key", "***", "--hf-token=***", "--port", "1")
    assert redact_argv(()) == ()


def test_text_log_has_no_secret_even_in_a_traceback():
    stream = io.StringIO()
    set_up_logging(secrets=["sesame"], stream=stream)
    try:
        raise ValueError("sesame is wrong")
    except ValueError:
        logging.getLogger("x").exception("with %s", "sesame")
    assert "sesame" not in stream.getvalue()
    assert "ERROR   x: with ***" in stream.getvalue()


def test_json_log_is_one_object_per_line():
    stream = io.StringIO()
    set_up_logging(form="json", level="debug", secrets=["sesame"], stream=stream)
    logging.getLogger("x").debug("two\nlines of %s 🦙", "sesame")
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"]) == ("debug", "x", "two\nlines of *** 🦙")
    assert entry["time"].endswith("+00:00")


def test_a_json_line_carries_the_fields_it_was_given():
    stream = io.StringIO()
    set_up_logging(form="json", secrets=["sesame"], stream=stream)
    given = logs.fields(request_id="r-1", ttft_s=0.25, backend="sesame:1", level="loud", path=Path("/x"))
    logging.getLogger("x").info("done", extra=given)
    entry = json.loads(stream.getvalue())
    assert (entry["request_id"], entry["ttft_s"], entry["backend"]) == ("r-1", 0.25, "***:1")
    assert (entry["level"], entry["path"]) == ("info", "/x")


def test_a_text_line_is_the_sentence_alone():
    stream = io.StringIO()
    set_up_logging(stream=stream)
    logging.getLogger("x").info("done", extra=logs.fields(request_id="r-1"))
    assert stream.getvalue().endswith(" INFO    x: done\n")


def test_level_is_honoured():
    stream = io.StringIO()
    set_up_logging(level="WARNING", stream=stream)
    logging.getLogger("x").info("quiet")
    assert stream.getvalue() == ""

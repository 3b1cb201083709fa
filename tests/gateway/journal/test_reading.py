"""What the engine's own events say."""

import json
from typing import Any

import pytest

from rpc_wrapper.gateway.endpoints import ENDPOINTS
from rpc_wrapper.gateway.journal.reading import Dialect, Nature, Reading, dialect_of, read, rename


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/completion", Dialect.NATIVE),
        ("/completions", Dialect.NATIVE),
        ("/infill", Dialect.NATIVE),
        ("/v1/completions", Dialect.TEXT),
        ("/chat/completions", Dialect.CHAT),
        ("/v1/messages", Dialect.MESSAGES),
        ("/responses", Dialect.RESPONSES),
        ("/v1/embeddings", Dialect.OTHER),
        ("/v1/audio/transcriptions", Dialect.OTHER),
    ],
)
def test_an_endpoint_speaks_one_dialect(path, dialect):
    assert dialect_of(ENDPOINTS[path].shape, path) is dialect


def event(value: dict[str, Any], name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("dialect", "raw", "nature", "text"),
    [
        (Dialect.NATIVE, b":\n\n", Nature.COMMENT, ""),
        (Dialect.NATIVE, event({"content": "a", "tokens": [5], "stop": False}), Nature.PART, "a"),
        (Dialect.NATIVE, event({"content": "", "tokens": [], "stop": True}), Nature.LAST, ""),
        (Dialect.NATIVE, event({"error": {"code": 500, "message": "no"}}), Nature.ERROR, ""),
        (Dialect.NATIVE, event({"content": "", "prompt_progress": {"processed": 1}}), Nature.PROGRESS, ""),
        (Dialect.TEXT, event({"choices": [{"text": "a", "index": 0, "finish_reason": None}]}), Nature.PART, "a"),
        (Dialect.TEXT, event({"choices": [{"text": "", "finish_reason": "stop"}]}), Nature.LAST, ""),
        (Dialect.TEXT, b"data: [DONE]\n\n", Nature.DONE, ""),
        (Dialect.CHAT, event({"choices": [{"delta": {"content": "a"}}]}), Nature.PART, "a"),
        (Dialect.CHAT, event({"choices": [{"delta": {"content": None, "role": "assistant"}}]}), Nature.PART, ""),
        (Dialect.CHAT, event({"choices": [{"delta": {"reasoning_content": "hm"}}]}), Nature.PART, "hm"),
        (Dialect.CHAT, event({"choices": [], "usage": {}}), Nature.LAST, ""),
        (Dialect.MESSAGES, event({"type": "content_block_delta", "delta": {"text": "a"}}), Nature.PART, "a"),
        (Dialect.MESSAGES, event({"type": "message_delta", "delta": {}, "usage": {}}), Nature.LAST, ""),
        (Dialect.MESSAGES, event({"type": "message_stop"}), Nature.DONE, ""),
        (Dialect.MESSAGES, event({"type": "error", "error": {"message": "no"}}, "error"), Nature.ERROR, ""),
        (Dialect.RESPONSES, event({"type": "response.output_text.delta", "delta": "a"}), Nature.PART, "a"),
        (Dialect.RESPONSES, event({"type": "response.completed", "response": {}}), Nature.DONE, ""),
    ],
)
def test_an_event_has_a_nature_and_a_text(dialect, raw, nature, text):
    reading = read(raw, dialect)
    assert (reading.nature, reading.text) == (nature, text)


def test_tool_calls_differ_by_their_arguments_and_not_by_their_ids():
    def call(name: str, arguments: str) -> Reading:
        function = {"name": "f", "arguments": arguments}
        delta = {"tool_calls": [{"index": 0, "id": name, "function": function}]}
        return read(event({"id": name, "choices": [{"index": 0, "delta": delta}]}), Dialect.CHAT)

    assert call("a", "{}").essence == call("b", "{}").essence
    assert call("a", "{}").essence != call("a", "{1").essence
    assert call("a", "{}").names == ("a", "a")


def test_ids_are_shown_by_the_native_form_and_the_verbose_one():
    native = {"content": "a", "tokens": [5], "stop": False, "tokens_predicted": 3}
    assert read(event(native), Dialect.NATIVE).token == 5
    verbose = read(event({"choices": [{"text": "a", "index": 0}], "__verbose": native}), Dialect.TEXT)
    assert (verbose.token, verbose.predicted) == (5, 3)


def test_names_are_replaced_wherever_they_stand_and_texts_are_not():
    value = {"id": "new", "item": {"id": "new", "text": "new"}, "list": [{"item_id": "new"}], "n": 1}
    mended = {"id": "old", "item": {"id": "old", "text": "new"}, "list": [{"item_id": "old"}], "n": 1}
    assert rename(value, {"new": "old"}) == mended

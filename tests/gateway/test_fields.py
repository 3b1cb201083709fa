"""Unknown fields and bodies that are no JSON object."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.gateway.endpoints import ENDPOINTS, Shape
from rpc_wrapper.gateway.errors import Refusal
from rpc_wrapper.gateway.fields import header_value, parse_object, unknown_fields

OPENAI_CHAT = {
    "model": "", "messages": [], "temperature": 0, "top_p": 1, "n": 1, "stream": True, "stream_options": {}, "stop": [],
    "max_tokens": 1, "max_completion_tokens": 1, "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {},
    "logprobs": True, "top_logprobs": 1, "user": "u", "seed": 1, "tools": [], "tool_choice": "auto",
    "parallel_tool_calls": True, "response_format": {}, "reasoning_effort": "low",
}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "names", "unknown"),
    [
        (Shape.COMPLETION, ["prompt", "n_predict", "templature"], ("templature",)),
        (Shape.COMPLETION, ["prompt", "temp", "repetition_penalty"], ("temp", "repetition_penalty")),
        (Shape.COMPLETION, ["model", "prompt", "id_slot", "cache_prompt", "grammar", "n_probs", "samplers"], ()),
        (Shape.CHAT, list(OPENAI_CHAT), ()),
        (Shape.CHAT, ["messages", "chat_template_kwargs", "min_p", "dry_base", "prompt"], ("prompt",)),
        (Shape.RESPONSES, ["input", "instructions", "max_output_tokens", "text"], ("text",)),
        (Shape.MESSAGES, ["messages", "max_tokens", "system", "thinking", "metadata", "min_p"], ("min_p",)),
        (Shape.EMBEDDING, ["input", "model", "encoding_format", "dimensions"], ("dimensions",)),
        (Shape.RERANK, ["query", "documents", "top_n", "model"], ()),
        (Shape.TOKENIZE, ["content", "with_pieces", "text"], ("text",)),
        (Shape.NONE, ["anything"], ()),
    ],
)
def test_only_what_the_engine_ignores_is_named(shape, names, unknown):
    assert unknown_fields(shape, names) == unknown


def test_every_endpoint_that_takes_json_has_a_table():
    for endpoint in ENDPOINTS.values():
        if "POST" in endpoint.methods:
            assert unknown_fields(endpoint.shape, ["no-such-field"]) == ("no-such-field",), endpoint.path


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Expecting value"),
        (b"{", "line 1"),
        (b"[1]", "list"),
        (b'"text"', "str"),
        (b"null", "NoneType"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"n": ' + b"9" * 5000 + b"}", "digits"),
    ],
)
def test_what_is_no_object_is_refused(body, says):
    with pytest.raises(Refusal, match=says) as caught:
        parse_object(body)
    assert caught.value.problem.status == 400


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_every_object_is_read_as_sent(value):
    assert parse_object(json.dumps(value).encode()) == value
    assert parse_object(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) is not None


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_names_never_break_the_header(names):
    value = header_value(names)
    assert all(32 <= byte < 127 for byte in value)
    assert len(value.split(b", ")) <= 16


def test_names_are_readable():
    assert header_value(["templature", "ma,x", "温度\n"]) == b"templature, ma%2Cx, %E6%B8%A9%E5%BA%A6%0A"

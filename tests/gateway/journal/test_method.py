"""How a request is asked, and which way it goes on."""

import json
from typing import Any

import pytest

from rpc_wrapper.gateway.journal.entry import Delivered, Entry
from rpc_wrapper.gateway.journal.method import Method, append_fields, ask, choose, has_seed, is_greedy, prefill_body
from rpc_wrapper.gateway.journal.reading import Dialect

NATIVE, TEXT, CHAT, MESSAGES, RESPONSES, OTHER = Dialect


def entry_of(dialect: Dialect, value: dict[str, Any], n_tokens: int = 100, **delivered: Any) -> Entry:
    body = {"stream": True, "prompt": "a", **value}
    entry = Entry("r1", ask(dialect, json.dumps(body).encode(), body, seed=7))
    ids = list(range(n_tokens)) if dialect in (NATIVE, TEXT) else []
    entry.delivered = Delivered({0: [(b"x", ())] * n_tokens}, ids, n_texts=n_tokens, **delivered)
    return entry


@pytest.mark.parametrize(
    ("dialect", "value", "method"),
    [
        (NATIVE, {}, Method.PREFILL),
        (NATIVE, {"temperature": 0}, Method.PREFILL),
        (NATIVE, {"prompt": [1, 2, 3]}, Method.PREFILL),
        (NATIVE, {"n_predict": 101}, Method.PREFILL),
        (NATIVE, {"n_predict": -1}, Method.PREFILL),
        (NATIVE, {"stop": ["x"], "repeat_penalty": 1.1, "mirostat": 0, "n": 1, "grammar": ""}, Method.PREFILL),
        (TEXT, {}, Method.PREFILL),
        (NATIVE, {"n_predict": 100}, Method.REPLAY),
        (NATIVE, {"max_tokens": 100}, Method.REPLAY),
        (NATIVE, {"prompt": ["a", "b"]}, Method.REPLAY),
        (NATIVE, {"prompt": [1, "a"]}, Method.REPLAY),
        (NATIVE, {"grammar": "root ::= x"}, Method.REPLAY),
        (NATIVE, {"json_schema": {"type": "object"}}, Method.REPLAY),
        (NATIVE, {"mirostat": 2}, Method.REPLAY),
        (NATIVE, {"adaptive_target": 0.5}, Method.REPLAY),
        (NATIVE, {"n": 2}, Method.REPLAY),
        (NATIVE, {"n_indent": 4}, Method.REPLAY),
        (NATIVE, {"response_fields": ["content"]}, Method.REPLAY),
        (TEXT, {"response_format": {"type": "json_object"}}, Method.REPLAY),
        (CHAT, {}, Method.REPLAY),
        (CHAT, {"tools": [{}], "n": 3}, Method.REPLAY),
        (RESPONSES, {}, Method.REPLAY),
        (MESSAGES, {"temperature": 0}, Method.REPLAY),
        (MESSAGES, {}, Method.END),
        (MESSAGES, {"temperature": 0.7}, Method.END),
        (OTHER, {"temperature": 0}, Method.END),
    ],
)
def test_a_hundred_tokens_go_on_as_their_request_allows(dialect, value, method):
    assert choose(entry_of(dialect, value), replay_tokens=64).method is method


def test_short_deliveries_are_replayed():
    assert choose(entry_of(NATIVE, {}, n_tokens=63), replay_tokens=64).method is Method.REPLAY


def test_tokens_that_were_not_shown_are_not_guessed():
    assert choose(entry_of(NATIVE, {}, has_gap=True), replay_tokens=64).method is Method.REPLAY


@pytest.mark.parametrize("dialect", list(Dialect))
def test_whoever_has_nothing_yet_starts_again(dialect):
    assert choose(entry_of(dialect, {}, n_tokens=0), replay_tokens=64).method is Method.REPLAY


def test_what_was_refused_is_not_tried_again():
    entry = entry_of(NATIVE, {}, n_tokens=10)
    entry.refusals[Method.REPLAY] = "event 3 differs"
    assert choose(entry, replay_tokens=64).method is Method.PREFILL
    entry.refusals[Method.PREFILL] = "the engine refused its prefill with 400"
    choice = choose(entry, replay_tokens=64)
    assert choice.method is Method.END
    assert "event 3 differs" in choice.reason
    assert "400" in choice.reason


def test_a_delivery_that_outgrew_the_journal_cannot_go_on():
    entry = entry_of(NATIVE, {"temperature": 0})
    entry.is_recorded = False
    assert choose(entry, replay_tokens=64).method is Method.END


@pytest.mark.parametrize(
    ("limits", "left"),
    [({"n_predict": 150}, 50), ({"max_tokens": 150}, 50), ({"n_predict": 130, "max_tokens": 500}, 30), ({}, None)],
)
def test_a_prefill_asks_for_what_is_left(limits, left):
    asked = entry_of(NATIVE, {"temperature": 0, **limits}).asked
    value = json.loads(prefill_body(asked, [1, 2], range(100)))
    assert value["prompt"] == [1, 2, *range(100)]
    assert value.get("n_predict") == left
    assert "max_tokens" not in value
    assert value["temperature"] == 0


class TestAsking:
    @pytest.mark.parametrize(
        ("value", "seed"),
        [
            ({}, 7),
            ({"seed": -1}, 7),
            ({"seed": None}, 7),
            ({"seed": 0xFFFFFFFF}, 7),
            ({"seed": 42}, 42),
            ({"seed": 0}, 0),
            ({"temperature": 0}, None),
            ({"temperature": 0.8}, 7),
        ],
    )
    def test_what_is_sampled_gets_a_seed(self, value, seed):
        value = {"stream": True, **value}
        asked = ask(CHAT, json.dumps(value).encode(), value, seed=7)
        assert json.loads(asked.body).get("seed") == seed
        assert asked.value is not None
        assert asked.value.get("seed") == seed

    @pytest.mark.parametrize("value", [{}, {"stream": False}, {"stream": 1}])
    def test_what_is_not_streamed_stays_as_it_is(self, value):
        body = json.dumps(value).encode()
        assert ask(NATIVE, body, value, seed=7).body == body

    def test_greedy_messages_stay_as_they_are(self):
        value = {"stream": True, "temperature": 0}
        assert ask(MESSAGES, b"{}", value, seed=7).body == b"{}"

    def test_what_the_client_asked_for_is_not_hidden_from_it(self):
        value = {"stream": True, "return_progress": True, "verbose": False, "temperature": 0}
        asked = ask(TEXT, b"{}", value, seed=7)
        assert (asked.body, asked.hides_progress, asked.hides_verbose) == (b"{}", False, False)

    def test_a_body_that_is_no_json_stays_as_it_is(self):
        assert ask(OTHER, b"--boundary", None, seed=7).body == b"--boundary"


@pytest.mark.parametrize("body", [b"{}", b' {"a": 1.50 } \n', b'{"s":"}"}', b'{"seed":-1}'])
def test_fields_are_added_behind_the_clients_own_bytes(body):
    added = append_fields(body, {"seed": 7})
    assert json.loads(added) == {**json.loads(body), "seed": 7}
    assert added.startswith(body.rstrip().rstrip(b"}").rstrip())
    assert append_fields(body, {}) == body


@pytest.mark.parametrize(
    ("value", "greedy"),
    [
        ({"temperature": 0}, True),
        ({"temperature": -1.0}, True),
        ({"temperature": 0, "dynatemp_range": 1}, False),
        ({"temperature": "0"}, False),
        ({}, False),
    ],
)
def test_greedy_is_what_surely_is(value, greedy):
    assert is_greedy(value) is greedy


def test_a_truth_value_is_no_seed():
    assert not has_seed({"seed": True})

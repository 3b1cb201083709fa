"""Events of both dialects, errors, times, and text that is safe on a terminal."""

import pytest

from rpc_wrapper.errors import UpstreamError
from rpc_wrapper.talk.answer import Delta, Times, error_text, printable, read_line, totals


@pytest.mark.parametrize(
    ("line", "delta"),
    [
        ('data: {"content": "a", "tokens_predicted": 3}', Delta("a", 3)),
        ('data: {"choices": [{"delta": {"content": "日本"}}]}', Delta("日本")),
        ('data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}', Delta()),
        ('data: {"choices": [{"delta": {"reasoning_content": "hm"}}]}', Delta("hm")),
        ('data: {"choices": [], "timings": {"predicted_n": 7}, "resumed": 1}', Delta("", 7, 1)),
        ("data: [DONE]", Delta(is_last=True)),
        ('data: {"content": "", "tokens_predicted": 3, "stop": true}', Delta("", 3, 0, True)),
        (": resumed 1", None),
        ("", None),
    ],
)
def test_a_line_is_an_event_or_none(line, delta):
    assert read_line(line) == delta


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('data: {"error": {"message": "backend b:1 was lost"}}', "backend b:1 was lost"),
        ("data: {", "no JSON"),
        ("data: []", "no object"),
    ],
)
def test_an_error_in_a_stream_is_raised_with_its_sentence(line, words):
    with pytest.raises(UpstreamError, match=words):
        read_line(line)


@pytest.mark.parametrize(
    ("body", "text"),
    [({"error": {"message": "m"}}, "m"), ({"error": "m"}, "m"), ({"message": "m"}, "m"), ("m", "m"), ({}, "{}")],
)
def test_errors_of_every_form_have_a_sentence(body, text):
    assert error_text(body) == text


def test_a_model_cannot_take_over_the_terminal():
    assert printable("\x1b[2Ja\x9b31m\rb\x07\tc\nd") == "[2Ja31mb\tc\nd"
    assert printable("日本 🙂‍↔️ naïve") == "日本 🙂‍↔️ naïve"


def test_times_in_words():
    assert str(Times(0.5, 2.0, 10)) == "first token 0.50 s, 10 tokens in 2.00 s, 5.0 tokens/s"
    assert str(Times(0.5, 2.0, 10, 2)).endswith(", resumed 2 times")
    assert Times(0, 0, 0).tokens_per_s == 0


def test_totals_are_sums_and_the_mean_wait():
    assert totals([Times(1, 2, 3), Times(3, 4, 5, 1)]) == Times(2, 6, 8, 1)
    assert totals([]) == Times(0, 0, 0)

"""Cutting and writing events."""

from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.gateway.journal.sse import Splitter, comment, encode, parse


@given(st.binary(), st.lists(st.integers(1, 20), min_size=1))
def test_what_is_cut_adds_up_to_what_came(data, sizes):
    splitter = Splitter()
    out = b""
    rest = data
    for size in sizes:
        out += b"".join(splitter.feed(rest[:size]))
        rest = rest[size:]
    out += b"".join(splitter.feed(rest))
    assert out + splitter.rest() == data
    assert b"\n\n" not in splitter.rest()


def test_an_event_reads_as_it_was_written():
    event = parse(encode("message_start", {"text": "日本🐈\n"}))
    assert event is not None
    assert (event.name, event.value) == ("message_start", {"text": "日本🐈\n"})


def test_comments_and_blank_lines_say_nothing():
    assert parse(comment("resumed 1")) is None
    assert parse(b":\n\n") is None
    assert parse(b"\n\n") is None


def test_what_is_no_object_has_no_value():
    event = parse(b"data: [DONE]\n\n")
    assert event is not None
    assert (event.data, event.value) == ("[DONE]", None)

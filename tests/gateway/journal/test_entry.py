"""What is remembered, and how much."""

import json

import pytest

from rpc_wrapper.gateway.journal.config import ResumeConfig
from rpc_wrapper.gateway.journal.entry import Asked, Delivered, Journal
from rpc_wrapper.gateway.journal.reading import Dialect, Reading, read

BODY = b'{"prompt":"a"}'


def reading_of(text: str, token: int, predicted: int, *, last: bool = False) -> Reading:
    value = {"index": 0, "content": text, "tokens": [] if last else [token], "stop": last}
    raw = b"data: " + json.dumps({**value, "tokens_predicted": predicted}).encode() + b"\n\n"
    return read(raw, Dialect.NATIVE)


def asked() -> Asked:
    return Asked(Dialect.NATIVE, BODY, {"prompt": "a"})


def test_an_entry_lives_as_long_as_its_request():
    journal = Journal(ResumeConfig())
    with journal.open("r1", asked()) as entry:
        journal.record(entry, reading_of("a", 1, 1))
        assert len(journal) == 1
        assert journal.size_bytes > len(BODY)
        with pytest.raises(ValueError, match="left"), journal.open("r1", asked()):
            raise ValueError("the client left")
    assert (len(journal), journal.size_bytes) == (0, 0)


def test_ids_are_complete_until_a_token_was_not_shown():
    delivered = Delivered()
    delivered.add(reading_of("a", 1, 1))
    assert (delivered.shown_ids, delivered.has_gap) == ([1], False)
    delivered.add(reading_of("あ", 2, 4))
    assert delivered.has_gap


def test_tokens_held_back_are_forgotten():
    delivered = Delivered()
    for index, text in enumerate(["a", "", "b", "", ""]):
        delivered.add(reading_of(text, index, index + 1))
    assert delivered.shown_ids == [0, 1, 2]
    assert delivered.n_tokens == 3
    assert len(delivered.forget_held_back()) == 2
    assert delivered.ids == [0, 1, 2]
    assert len(delivered.events[0]) == 3
    assert delivered.forget_held_back() == []


def test_a_native_stream_is_complete_with_the_last_event_of_each():
    journal = Journal(ResumeConfig())
    with journal.open("r1", asked()) as entry:
        journal.record(entry, reading_of("a", 1, 1))
        assert not entry.is_complete
        journal.record(entry, reading_of("", 0, 1, last=True))
        assert entry.is_complete


@pytest.mark.parametrize("config", [ResumeConfig(max_entry_bytes=1000), ResumeConfig(max_journal_bytes=1000)])
def test_a_delivery_over_the_bounds_is_forgotten_and_still_counted(config):
    journal = Journal(config)
    with journal.open("r1", asked()) as entry:
        for index in range(10):
            journal.record(entry, reading_of("a", index, index + 1))
        assert not entry.is_recorded
        assert entry.delivered.n_tokens == 10
        assert entry.delivered.events == {}
        assert journal.size_bytes == 0
        journal.record(entry, reading_of("", 0, 10, last=True))
        assert entry.is_complete
    assert journal.size_bytes == 0


def test_a_new_token_gives_new_attempts():
    journal = Journal(ResumeConfig())
    with journal.open("r1", asked()) as entry:
        entry.attempts = entry.losses = 2
        journal.record(entry, reading_of("", 1, 1))
        assert entry.attempts == 2
        journal.record(entry, reading_of("a", 2, 2))
        assert (entry.attempts, entry.losses) == (0, 2)


def test_its_numbers_are_json():
    journal = Journal(ResumeConfig())
    with journal.open("r1", asked()):
        numbers = {"entries": 1, "bytes": len(BODY), "resumed_total": 0, "ended_total": 0}
        assert json.loads(json.dumps(journal.to_json())) == numbers


def test_a_printed_journal_tells_its_size():
    assert repr(Journal(ResumeConfig())) == "<Journal 0 entries, 0 bytes, 0 resumed>"

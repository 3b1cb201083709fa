"""Changes of a snapshot as events: nothing lost, nothing twice, whoever comes and however late."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.gateway.tape import Tape, difference


def entries(*numbers: int) -> list[dict[str, int]]:
    return [{"number": number} for number in numbers]


def read(data: bytes) -> list[tuple[str, str, Any]]:
    """Return the events of some bytes: id, name, value."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


def applied(snapshot: dict[str, Any], data: bytes) -> dict[str, Any]:
    """Return what a watcher knows after some bytes."""
    for _, name, value in read(data):
        if name == "snapshot":
            snapshot = value
            continue
        history = snapshot.get("history", []) + value.get("history", [])
        snapshot = {key: each for key, each in (snapshot | value).items() if each is not None}
        snapshot |= {"history": history} if "history" in snapshot else {}
    return snapshot


def test_a_difference_holds_only_what_changed():
    assert difference({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == {"b": 3, "c": 4}
    assert difference({"a": 1, "b": 2}, {"a": 1}) == {"b": None}
    assert difference({"a": 1}, {"a": 1}) == {}


def test_of_the_history_only_what_is_new():
    before, after = {"history": entries(3, 4)}, {"history": entries(4, 5, 6)}
    assert difference(before, after) == {"history": entries(5, 6)}


def test_a_newcomer_gets_a_snapshot_and_then_every_change():
    tape = Tape("run")
    tape.record({"state": "starting"})
    (first,) = read(tape.since(None))
    assert first == ("run-1", "snapshot", {"state": "starting"})
    tape.record({"state": "ready", "pid": 7})
    tape.record({"state": "ready", "pid": 8})
    assert read(tape.since("run-1")) == [
        ("run-2", "change", {"state": "ready", "pid": 7}),
        ("run-3", "change", {"pid": 8}),
    ]
    assert tape.since("run-3") == b""


def test_nothing_is_written_when_nothing_changes():
    tape = Tape("run")
    assert tape.record({"state": "ready"})
    assert not tape.record({"state": "ready"})
    assert tape.newest == "run-1"


def test_who_lags_too_far_behind_gets_a_snapshot():
    tape = Tape("run", kept=2)
    for number in range(5):
        tape.record({"n": number})
    assert [name for _, name, _ in read(tape.since("run-3"))] == ["change", "change"]
    assert read(tape.since("run-2")) == [("run-5", "snapshot", {"n": 4})]


def test_an_id_of_another_run_is_unknown():
    tape = Tape("new")
    tape.record({"n": 1})
    for seen in ("old-1", "new-2", "new--1", "new-x", "new-", "x", "", "new-¹"):
        assert read(tape.since(seen)) == [("new-1", "snapshot", {"n": 1})], seen


def test_all_watchers_share_one_snapshot():
    tape = Tape("run")
    tape.record({"n": 1})
    assert tape.since(None) is tape.since("elsewhere-9")


def test_text_cannot_break_out_of_an_event():
    tape = Tape("run")
    tape.record({"reason": "a\n\nevent: snapshot\ndata: {}\n\n"})
    assert len(read(tape.since(None))) == 1


snapshots_of_some_sections = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3)


@given(st.lists(st.tuples(snapshots_of_some_sections, st.integers(0, 3), st.booleans()), max_size=30))
def test_every_watcher_ends_up_with_the_whole(steps: list[tuple[dict[str, int], int, bool]]):
    tape, written, seen = Tape("run", kept=3), 0, None
    snapshot: dict[str, Any] = {}
    known: dict[str, Any] = {}
    for sections, happened, looks in steps:
        written += happened
        snapshot = {**sections, "history": entries(*range(written))}
        tape.record(snapshot)
        if looks:
            known, seen = applied(known, tape.since(seen)), tape.newest
            assert known == snapshot

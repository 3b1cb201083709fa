"""Where the time of a recovery went is read from the history right."""

from typing import Any

import pytest

from tests.chaos.timeline import timeline


def history(*entries: tuple[float, str]) -> list[dict[str, Any]]:
    return [{"at": at, "kind": kind} for at, kind in entries]


def test_every_state_is_counted_where_it_belongs():
    found = timeline(
        history((1, "ready"), (11, "fencing"), (12, "backoff"), (15, "preparing"), (16, "starting"), (24, "ready")),
        struck_at=9,
        streams_s=[17.0],
    )
    assert found is not None
    assert (found.detect_s, found.fence_s, found.wait_s, found.load_s) == (2, 1, 4, 8)
    assert found.streams_s == (17.0,)


def test_a_second_failure_adds_to_the_first():
    found = timeline(
        history((10, "backoff"), (11, "starting"), (12, "backoff"), (14, "starting"), (15, "ready")), struck_at=9
    )
    assert found is not None
    assert (found.detect_s, found.fence_s, found.wait_s, found.load_s) == (1, 0, 3, 2)


def test_entries_that_are_no_states_are_no_time_of_their_own():
    found = timeline(history((10, "fencing"), (11, "fault"), (13, "starting"), (14, "ready")), struck_at=10)
    assert found is not None
    assert (found.fence_s, found.load_s) == (3, 1)


def test_a_planned_restart_is_told_from_a_fault():
    entries = history((11, "fencing"), (12, "ready"))
    for cause, is_planned in (("RestartRequested", True), ("FaultFound", False)):
        found = timeline([{**entries[0], "cause": cause}, {**entries[1], "cause": "BecameReady"}], struck_at=10)
        assert found is not None
        assert found.is_planned is is_planned


@pytest.mark.parametrize("entries", [(), ((8.0, "starting"), (9.0, "ready")), ((11.0, "fencing"),)])
def test_without_a_way_back_to_ready_there_is_none(entries: tuple[tuple[float, str], ...]):
    assert timeline(history(*entries), struck_at=10) is None

"""Who is there, and what follows from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.gateway.roll_call import Decision, Patience, call_roll, decide
from rpc_wrapper.rpc import ProbeState
from tests.gateway.reports import confined, report, stopped, taken

A, B = report("a"), report("b")
DOWN, WRONG = report("c", ProbeState.DOWN), report("d", ProbeState.WRONG_VERSION)
PATIENCE = Patience(wait_s=60, rejoin_wait_s=5)


def test_reports_are_sorted():
    roll = call_roll([A, DOWN, confined("q"), stopped("t"), WRONG], last_used={"a:1", "q:1"})
    assert [str(each.endpoint) for each in roll.usable] == ["a:1"]
    assert [str(each.endpoint) for each in roll.missing] == ["c:1", "q:1", "t:1"]
    assert [str(each.endpoint) for each in roll.hopeless] == ["d:1"]
    assert [str(each.endpoint) for each in roll.lost] == ["q:1"]


def test_the_sentence_gives_each_absentee_its_reason():
    roll = call_roll([A, DOWN, confined("q"), stopped("t"), WRONG])
    assert roll.sentence == (
        "1 of 5 backends can be used: d:1 is wrong version: as told; c:1 is down: as told; "
        "q:1 is in quarantine (0 of 3 probes answered): was lost; "
        "t:1 is stopped: its worker was sent SIGSTOP and has to be continued or restarted"
    )
    assert call_roll([A]).sentence == "every backend answers"


def test_who_serves_another_is_busy_and_waited_for():
    roll = call_roll([A, taken("t")])
    assert [str(each.endpoint) for each in roll.missing] == ["t:1"]
    assert roll.sentence == "1 of 2 backends can be used: t:1 is busy: it serves another llama-server at 10.0.0.9"
    assert taken("t").to_json()["state"] == "busy"
    assert taken("t").answers


@pytest.mark.parametrize(
    ("reports", "waited_s", "min_backends", "decision"),
    [
        ([A, B], 0, None, Decision.GO),
        ([A, DOWN], 59, None, Decision.WAIT),
        ([A, DOWN], 60, None, Decision.GIVE_UP),
        ([A, DOWN], 59, 1, Decision.WAIT),
        ([A, DOWN], 60, 1, Decision.GO),
        ([A, DOWN], 60, 2, Decision.GIVE_UP),
        ([A, confined("q")], 1, None, Decision.WAIT),
        ([A, taken("t")], 59, None, Decision.WAIT),
        ([A, taken("t")], 60, None, Decision.GIVE_UP),
        ([A, WRONG], 0, 1, Decision.GIVE_UP),
        ([], 0, None, Decision.GO),
    ],
)
def test_the_first_start_wants_everybody_it_was_told_of(reports, waited_s, min_backends, decision):
    patience = Patience(60, 5, min_backends)
    assert decide(call_roll(reports), patience, waited_s, was_ready=False) is decision


@pytest.mark.parametrize(
    ("reports", "last_used", "waited_s", "min_backends", "decision"),
    [
        ([A, B], {"a:1", "b:1"}, 0, None, Decision.GO),
        ([A, DOWN], {"a:1", "c:1"}, 4.9, None, Decision.WAIT),
        ([A, DOWN], {"a:1", "c:1"}, 5, None, Decision.GO_IF_IT_FITS),
        ([A, DOWN], {"a:1"}, 0, None, Decision.GO_IF_IT_FITS),  # it was given up on before
        ([A, WRONG], {"a:1", "d:1"}, 5, None, Decision.GO_IF_IT_FITS),
        ([A, confined("q")], {"a:1", "q:1"}, 1, None, Decision.WAIT),
        ([A, confined("q", strikes=3)], {"a:1", "q:1"}, 0, None, Decision.GO_IF_IT_FITS),  # it flaps
        ([A, DOWN], {"a:1", "c:1"}, 500, 2, Decision.WAIT),
        ([DOWN], {"c:1"}, 5, None, Decision.GO_IF_IT_FITS),  # the server's own devices may do
    ],
)
def test_a_recovery_waits_a_moment_for_who_was_lost(reports, last_used, waited_s, min_backends, decision):
    patience = Patience(60, 5, min_backends)
    assert decide(call_roll(reports, last_used), patience, waited_s, was_ready=True) is decision


@given(
    st.lists(st.sampled_from([A, B, DOWN, WRONG, confined("q"), stopped("t")]), max_size=6),
    st.floats(0, 1e6),
    st.none() | st.integers(0, 6),
)
def test_a_recovery_never_gives_up_and_nobody_absent_is_used(reports, waited_s, min_backends):
    roll = call_roll(reports, {"a:1", "q:1"})
    assert decide(roll, Patience(60, 5, min_backends), waited_s, was_ready=True) is not Decision.GIVE_UP
    assert all(each.may_be_used for each in roll.usable)
    assert len(roll.usable) + len(roll.absent) == len(reports)

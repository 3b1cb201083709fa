"""A recovery is timed from the fault to readiness, whatever happens in between."""

import pytest

from rpc_wrapper.supervisor.actions import Work
from rpc_wrapper.supervisor.events import (
    BecameReady,
    Event,
    Exited,
    FaultFound,
    Prepared,
    PrepareFailed,
    RestartRequested,
    Spawned,
    StartRequested,
    StopRequested,
    TimerFired,
)
from rpc_wrapper.supervisor.launch import Launch
from rpc_wrapper.supervisor.lifecycle import Lifecycle
from rpc_wrapper.supervisor.restart import RestartPolicy
from rpc_wrapper.supervisor.status import Diagnosis, Exit, Fault, FaultKind, Recovery
from rpc_wrapper.supervisor.stopwatch import Stopwatch

LAUNCH = Launch(("engine",), {})
SILENCE = FaultFound(Fault(FaultKind.SILENCE, "silence", "b:1", detected_after_s=9.0))
GONE = Exited(Exit(-9, Diagnosis(backend="b:1")))
UP = BecameReady("up", load_s=0.5, first_token_s=0.25)
RISE: list[tuple[float, Event]] = [(1.0, Prepared(LAUNCH)), (0.0, Spawned(7)), (0.75, UP)]


def play(*steps: tuple[float, Event]) -> list[Recovery | None]:
    """Let each event come after a pause, from a child that is ready; return what the watch said to each."""
    life = Lifecycle(RestartPolicy(), stop_grace_s=3, fence_grace_s=1, jitter=lambda: 0.0)
    watch, now, said = Stopwatch(), 100.0, []
    for pause_s, event in ((0.0, StartRequested()), *RISE, *steps):
        now += pause_s
        before = life.state
        life.handle(event, now)
        said.append(watch.note(event, before, life.state, now))
    assert said[:4] == [None] * 4, "a first start is no recovery"
    return said[4:]


def test_a_fault_is_fenced_waited_for_and_recovered():
    *before, recovery = play((20.0, SILENCE), (0.5, GONE), (0.25, TimerFired(Work.BACKOFF)), *RISE)
    assert before == [None] * 5
    assert recovery == Recovery("silence", "b:1", 1, 0.5, 1.25, 2.5, 9.0, 0.5, 0.25)


def test_an_exit_needs_no_fence():
    recovery = play((20.0, GONE), (0.25, TimerFired(Work.BACKOFF)), *RISE)[-1]
    assert recovery == Recovery("exit", "b:1", 1, 0.0, 1.25, 2.0, 0.0, 0.5, 0.25)


def test_a_request_is_a_recovery_too():
    recovery = play((20.0, RestartRequested("replan")), (0.5, GONE), *RISE)[-1]
    assert recovery == Recovery("requested", None, 1, 0.5, 1.0, 2.25, None, 0.5, 0.25)


def test_attempts_that_fail_belong_to_the_same_recovery():
    again: tuple[float, Event] = (0.25, TimerFired(Work.BACKOFF))
    steps: list[tuple[float, Event]] = [(20.0, GONE), again, (1.0, PrepareFailed("no", permanent=False)), again]
    steps += [(1.0, Prepared(LAUNCH)), (0.0, Spawned(7)), (4.0, GONE), again]
    recovery = play(*steps, *RISE)[-1]
    assert recovery is not None
    assert (recovery.attempts, recovery.wait_s, recovery.total_s) == (2, 3.75, 8.5)


def test_a_stop_ends_the_watch():
    assert play((1.0, GONE), (0.1, StopRequested())) == [None, None]


@pytest.mark.parametrize("event", [SILENCE, GONE])
def test_nothing_is_said_before_it_is_over(event):
    assert play((1.0, event)) == [None]

"""The life of a child as scripts of events: no event loop, no process."""

from collections.abc import Callable

import pytest

from rpc_wrapper.supervisor.actions import (
    AwaitReady,
    KillGroup,
    Prepare,
    SetTimer,
    Spawn,
    Terminate,
    Watch,
    Work,
)
from rpc_wrapper.supervisor.events import (
    BecameReady,
    Event,
    Exited,
    FaultFound,
    KillRequested,
    Prepared,
    PrepareFailed,
    ReadinessFailed,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TimerFired,
)
from rpc_wrapper.supervisor.launch import Launch
from rpc_wrapper.supervisor.restart import RestartPolicy
from rpc_wrapper.supervisor.status import Diagnosis, Exit, Fault, FaultKind, State
from tests.supervisor.playbook import FENCE_GRACE_S, STOP_GRACE_S, Playbook

LAUNCH = Launch(("engine",), {}, ready_deadline_s=60)
FAULT = FaultFound(Fault(FaultKind.SILENCE, "no token for 9 s"))
CRASH = Exited(Exit(134))
TERMINATED = Exited(Exit(0))
BAD_MODEL = Exited(Exit(1, Diagnosis("bad_model", "check the file", permanent=True)))
POLICY = RestartPolicy(
    initial_s=1, factor=2, max_s=8, jitter=0, breaker_failures=3, breaker_window_s=60, cooldown_s=99, reset_after_s=30
)


def preparing() -> Playbook:
    return Playbook(POLICY).on(StartRequested(), Prepare(), state=State.PREPARING)


def spawning(play: Playbook | None = None) -> Playbook:
    return (play or preparing()).on(Prepared(LAUNCH), Spawn(LAUNCH), state=State.STARTING)


def starting(play: Playbook | None = None) -> Playbook:
    return spawning(play).on(Spawned(7), AwaitReady(LAUNCH), SetTimer(Work.DEADLINE, 60), state=State.STARTING)


def ready(play: Playbook | None = None) -> Playbook:
    return starting(play).on(BecameReady("a token came out"), Watch(LAUNCH), state=State.READY)


def fencing() -> Playbook:
    return ready().on(FAULT, Terminate(), SetTimer(Work.KILL, FENCE_GRACE_S), state=State.FENCING)


def stopping() -> Playbook:
    return ready().on(StopRequested(), Terminate(), SetTimer(Work.KILL, STOP_GRACE_S), state=State.STOPPING)


def backing_off() -> Playbook:
    return ready().on(CRASH, SetTimer(Work.BACKOFF, 1), state=State.BACKOFF)


def failed() -> Playbook:
    return starting().on(BAD_MODEL, state=State.FAILED)


def test_the_way_up():
    play = ready().because("a token came out")
    assert (play.life.generation, play.life.restarts, play.life.ever_ready) == (1, 0, True)


@pytest.mark.parametrize("code", [0, 1, -11, 134])
def test_any_exit_is_a_setback_until_we_asked_for_it(code: int) -> None:
    play = ready().on(Exited(Exit(code)), SetTimer(Work.BACKOFF, 1), state=State.BACKOFF)
    starting(play.on(TimerFired(Work.BACKOFF), Prepare(), state=State.PREPARING))
    assert play.life.restarts == 1


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (FAULT, "no token"),
        (ReadinessFailed("no canary", permanent=False), "no canary"),
        (TimerFired(Work.DEADLINE), "not ready within 60 s"),
    ],
)
def test_a_fault_while_starting_fences_before_it_heals(event: Event, reason: str) -> None:
    play = starting().on(event, Terminate(), SetTimer(Work.KILL, FENCE_GRACE_S), state=State.FENCING).because(reason)
    play.on(TERMINATED, SetTimer(Work.BACKOFF, 1), state=State.BACKOFF).because(reason)


def test_a_child_deaf_to_sigterm_is_killed_until_it_is_gone():
    play = fencing()
    for _ in range(3):
        play.on(TimerFired(Work.KILL), KillGroup(), SetTimer(Work.KILL, FENCE_GRACE_S), state=State.FENCING)
    play.on(Exited(Exit(-9)), SetTimer(Work.BACKOFF, 1), state=State.BACKOFF)


def test_sigterm_is_sent_once_however_many_reasons():
    play = fencing().on(FAULT, state=State.FENCING).on(RestartRequested("again"), state=State.FENCING)
    play.on(StopRequested(), state=State.STOPPING).on(StopRequested(), state=State.STOPPING)
    play.on(TERMINATED, state=State.STOPPED)


def test_a_fenced_child_that_crashed_tells_why():
    fencing().on(CRASH, SetTimer(Work.BACKOFF, 1), state=State.BACKOFF).because("no token for 9 s; exit code 134")


def test_a_permanent_failure_seen_late_still_counts():
    play = starting().on(
        ReadinessFailed("connection refused", permanent=False),
        Terminate(),
        SetTimer(Work.KILL, FENCE_GRACE_S),
        state=State.FENCING,
    )
    play.on(BAD_MODEL, state=State.FAILED).because("check the file")


def test_a_permanent_reason_stays_permanent_when_the_child_crashes_too():
    play = starting().on(
        ReadinessFailed("wrong plan", permanent=True),
        Terminate(),
        SetTimer(Work.KILL, FENCE_GRACE_S),
        state=State.FENCING,
    )
    play.on(CRASH, state=State.FAILED).because("wrong plan; exit code 134")


@pytest.mark.parametrize(
    ("make", "event"),
    [
        (preparing, PrepareFailed("no such file", permanent=True)),
        (spawning, SpawnFailed("no such program", permanent=True)),
        (starting, BAD_MODEL),
    ],
)
def test_permanent_before_readiness_fails_at_once(make: Callable[[], Playbook], event: Event) -> None:
    make().on(event, state=State.FAILED)


def test_permanent_after_readiness_is_tried_again():
    play = ready().on(BAD_MODEL, SetTimer(Work.BACKOFF, 1), state=State.BACKOFF)
    play.on(TimerFired(Work.BACKOFF), Prepare(), state=State.PREPARING)
    play.on(PrepareFailed("no such file", permanent=True), SetTimer(Work.BACKOFF, 2), state=State.BACKOFF)


def test_before_readiness_the_budget_is_a_count_however_slow():
    play = preparing()
    for delay_s in (1, 2):
        starting(play).after(1000).on(CRASH, SetTimer(Work.BACKOFF, delay_s), state=State.BACKOFF)
        play.on(TimerFired(Work.BACKOFF), Prepare(), state=State.PREPARING)
    starting(play).on(CRASH, state=State.FAILED).because("gave up after 3 attempts: exit code 134")


def test_a_crash_loop_after_readiness_cools_down_and_never_ends():
    play = ready()
    for delay_s in (1, 2, 99, 99):
        play.after(1).on(CRASH, SetTimer(Work.BACKOFF, delay_s), state=State.BACKOFF)
        ready(play.on(TimerFired(Work.BACKOFF), Prepare(), state=State.PREPARING))
    play.on(CRASH, SetTimer(Work.BACKOFF, 99), state=State.BACKOFF).because("crash loop, 3 failures within 60 s")


def test_failures_far_apart_are_no_crash_loop_but_back_off_to_the_longest_pause():
    play = ready()
    for delay_s in (1, 2, 4, 8, 8):
        play.after(29.9).on(CRASH, SetTimer(Work.BACKOFF, delay_s), state=State.BACKOFF)
        ready(play.after(5).on(TimerFired(Work.BACKOFF), Prepare(), state=State.PREPARING))


def test_a_long_spell_of_readiness_clears_the_count():
    play = ready()
    for _ in range(10):
        play.after(30).on(CRASH, SetTimer(Work.BACKOFF, 1), state=State.BACKOFF)
        ready(play.on(TimerFired(Work.BACKOFF), Prepare(), state=State.PREPARING))


def test_a_planned_restart_is_no_setback_and_has_the_longer_grace():
    play = ready()
    for _ in range(10):
        play.on(RestartRequested("replan"), Terminate(), SetTimer(Work.KILL, FENCE_GRACE_S), state=State.FENCING)
        ready(play.on(TERMINATED, Prepare(), state=State.PREPARING).because("replan"))
    assert play.life.restarts == 10


@pytest.mark.parametrize("make", [preparing, backing_off])
def test_a_restart_without_a_child_prepares_at_once(make: Callable[[], Playbook]) -> None:
    make().on(RestartRequested("backend joined"), Prepare(), state=State.PREPARING).because("backend joined")


@pytest.mark.parametrize("request_", [StopRequested(), KillRequested()])
@pytest.mark.parametrize("make", [preparing, backing_off, failed])
def test_without_a_child_a_stop_is_immediate(make: Callable[[], Playbook], request_: Event) -> None:
    make().on(request_, state=State.STOPPED)


@pytest.mark.parametrize("make", [starting, ready])
def test_stop_takes_the_child_down_first(make: Callable[[], Playbook]) -> None:
    play = make().on(StopRequested(), Terminate(), SetTimer(Work.KILL, STOP_GRACE_S), state=State.STOPPING)
    play.on(TimerFired(Work.KILL), KillGroup(), SetTimer(Work.KILL, STOP_GRACE_S), state=State.STOPPING)
    play.on(Exited(Exit(-9)), state=State.STOPPED)


@pytest.mark.parametrize("make", [starting, ready, fencing, stopping])
def test_kill_is_immediate_in_every_state_with_a_child(make: Callable[[], Playbook]) -> None:
    make().on(KillRequested(), KillGroup(), SetTimer(Work.KILL, STOP_GRACE_S), state=State.STOPPING).on(
        Exited(Exit(-9)), state=State.STOPPED
    )


def test_a_stop_that_overtakes_the_spawn_waits_for_the_newborn():
    play = spawning().on(StopRequested(), state=State.STOPPING)
    play.on(Spawned(7), Terminate(), SetTimer(Work.KILL, STOP_GRACE_S), state=State.STOPPING)
    spawning().on(StopRequested(), state=State.STOPPING).on(SpawnFailed("EAGAIN", permanent=False), state=State.STOPPED)


def test_a_kill_that_overtakes_the_spawn_kills_the_newborn():
    play = spawning().on(KillRequested(), state=State.STOPPING)
    play.on(Spawned(7), KillGroup(), SetTimer(Work.KILL, STOP_GRACE_S), state=State.STOPPING)


def test_a_fault_that_overtakes_the_spawn_fences_the_newborn():
    play = spawning().on(FAULT, state=State.FENCING)
    play.on(Spawned(7), Terminate(), SetTimer(Work.KILL, FENCE_GRACE_S), state=State.FENCING)
    failing = spawning().on(FAULT, state=State.FENCING)
    failing.on(SpawnFailed("EAGAIN", permanent=False), SetTimer(Work.BACKOFF, 1), state=State.BACKOFF)


def test_a_kill_concerns_the_present_child_only():
    play = stopping().on(KillRequested(), KillGroup(), SetTimer(Work.KILL, STOP_GRACE_S), state=State.STOPPING)
    play.on(Exited(Exit(-9)), state=State.STOPPED).on(StartRequested(), Prepare(), state=State.PREPARING)
    ready(play).on(StopRequested(), Terminate(), SetTimer(Work.KILL, STOP_GRACE_S), state=State.STOPPING)


def test_starting_again_forgets_the_past():
    play = failed().on(StartRequested(), Prepare(), state=State.PREPARING)
    starting(play)
    assert (play.life.ever_ready, play.life.restarts, play.life.generation) == (False, 0, 2)


@pytest.mark.parametrize("make", [preparing, backing_off, failed, stopping, fencing])
def test_a_fault_of_a_child_that_is_not_up_changes_nothing(make: Callable[[], Playbook]) -> None:
    play = make()
    play.on(FAULT, state=play.life.state)


def test_a_backend_that_fails_again_and_again_is_no_crash_loop_of_the_child():
    lost = FaultFound(Fault(FaultKind.CONNECTION, "b:1 was lost", backend="b:1"))
    play = ready()
    for _ in range(20):
        play.on(lost, Terminate(), SetTimer(Work.KILL, FENCE_GRACE_S), state=State.FENCING)
        play.on(Exited(Exit(-9)), SetTimer(Work.BACKOFF, 1.0), state=State.BACKOFF).because("b:1 was lost")
        play.on(TimerFired(Work.BACKOFF), Prepare(), state=State.PREPARING)
        play.on(Prepared(LAUNCH), Spawn(LAUNCH), state=State.STARTING)
        play.on(Spawned(7), AwaitReady(LAUNCH), SetTimer(Work.DEADLINE, LAUNCH.ready_deadline_s), state=State.STARTING)
        play.on(BecameReady("up"), Watch(LAUNCH), state=State.READY)


def test_before_the_first_readiness_every_failure_costs_an_attempt():
    lost = Exited(Exit(134, Diagnosis("backend_lost", "b:1 was lost", backend="b:1")))
    play = Playbook(RestartPolicy(jitter=0, breaker_failures=2))
    play.on(StartRequested(), Prepare(), state=State.PREPARING)
    for delay_s in (0.25, None):
        play.on(Prepared(LAUNCH), Spawn(LAUNCH), state=State.STARTING)
        play.on(Spawned(7), AwaitReady(LAUNCH), SetTimer(Work.DEADLINE, LAUNCH.ready_deadline_s), state=State.STARTING)
        if delay_s is not None:
            play.on(lost, SetTimer(Work.BACKOFF, delay_s), state=State.BACKOFF)
            play.on(TimerFired(Work.BACKOFF), Prepare(), state=State.PREPARING)
    play.on(lost, state=State.FAILED).because("gave up after 2 attempts")

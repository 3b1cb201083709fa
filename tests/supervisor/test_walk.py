"""Random walks: any order of events that a runner can produce, and what must hold on each of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc_wrapper.supervisor.actions import (
    OWNERS,
    Action,
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
from rpc_wrapper.supervisor.lifecycle import Lifecycle
from rpc_wrapper.supervisor.restart import RestartPolicy
from rpc_wrapper.supervisor.status import Diagnosis, Exit, Fault, FaultKind, Recovery, State
from rpc_wrapper.supervisor.stopwatch import Stopwatch

LAUNCH = Launch(("engine",), {})
FAULT = FaultFound(Fault(FaultKind.SILENCE, "silence"))
EXITS = [
    Exited(Exit(code, Diagnosis(permanent=permanent))) for code in (0, 1, -9, -15, 134) for permanent in (False, True)
]
REQUESTS: list[Event] = [StopRequested(), KillRequested(), RestartRequested("replan"), FAULT]
ANSWERS: dict[Work, list[Event]] = {
    Work.PREPARE: [Prepared(LAUNCH), PrepareFailed("no", permanent=False), PrepareFailed("never", permanent=True)],
    Work.READINESS: [BecameReady("up"), ReadinessFailed("no", permanent=False), ReadinessFailed("no", permanent=True)],
    Work.WATCH: [FAULT],
    Work.CHILD: list(EXITS),
    **{timer: [TimerFired(timer)] for timer in (Work.DEADLINE, Work.KILL, Work.BACKOFF)},
}
SPAWN_ANSWERS: list[Event] = [Spawned(7), SpawnFailed("EAGAIN", permanent=False), SpawnFailed("ENOENT", permanent=True)]


class World:
    """Everything outside the life cycle, as loosely as a runner could ever behave; it checks while it obeys."""

    def __init__(self) -> None:
        self.life = Lifecycle(RestartPolicy(), stop_grace_s=3, fence_grace_s=1, jitter=lambda: 0.5)
        self.now = 0.0
        self.work: set[Work] = set()
        self.is_spawning = False
        self.has_child = False
        self.sigterms = 0
        self.is_stopping = False
        self.stopwatch = Stopwatch()
        self.left_ready_at: float | None = None  # since when a recovery is under way

    def possible(self) -> list[Event]:
        """Return every event that could come next."""
        events = [event for work in Work if work in self.work for event in ANSWERS[work]]
        if self.is_spawning:
            events += SPAWN_ANSWERS
        return [*events, *REQUESTS, *([StartRequested()] if self.life.state.is_final else [])]

    def feed(self, event: Event) -> None:
        self._happen(event)
        before = self.life.state
        actions = self.life.handle(event, self.now)
        self._check_recovery(before, self.stopwatch.note(event, before, self.life.state, self.now))
        self.work = {work for work in self.work if self.life.state in OWNERS[work]}
        for action in actions:
            self._obey(action)
        self._check()

    def _happen(self, event: Event) -> None:
        self.work -= {work for work, answers in ANSWERS.items() if event in answers and work is not Work.WATCH}
        match event:
            case Spawned():
                self.is_spawning, self.has_child, self.sigterms = False, True, 0
                self.work.add(Work.CHILD)
            case SpawnFailed():
                self.is_spawning = False
            case Exited():
                self.has_child = False
            case StartRequested():
                self.is_stopping = False
            case StopRequested() | KillRequested():
                self.is_stopping = True

    def _obey(self, action: Action) -> None:
        match action:
            case Prepare():
                self.work.add(Work.PREPARE)
            case Spawn():
                assert not self.has_child, "two children at once"
                assert not self.is_spawning, "two children at once"
                assert not self.is_stopping, "a child after a stop"
                self.is_spawning = True
            case AwaitReady() | Watch():
                assert self.has_child
                self.work.add(Work.READINESS if isinstance(action, AwaitReady) else Work.WATCH)
            case Terminate():
                self.sigterms += 1
                assert self.has_child
                assert self.sigterms == 1, "SIGTERM twice"
            case KillGroup():
                assert self.has_child
            case SetTimer(timer, delay_s):
                assert delay_s >= 0
                self.work.add(timer)

    def _check_recovery(self, before: State, recovery: Recovery | None) -> None:
        """Every readiness lost and found again is timed, whatever was in between; nothing else is."""
        after = self.life.state
        if before is State.READY and after is not State.READY:
            self.left_ready_at = self.now
        if self.is_stopping or after.is_final:
            self.left_ready_at = None
        is_over = after is State.READY and before is not State.READY and self.left_ready_at is not None
        assert (recovery is not None) == is_over
        if recovery is not None and self.left_ready_at is not None:
            assert recovery.total_s == self.now - self.left_ready_at
            assert 0 <= recovery.fence_s + recovery.wait_s <= recovery.total_s + 1e-9
            assert recovery.attempts >= 1
            self.left_ready_at = None

    def _check(self) -> None:
        state = self.life.state
        assert all(state in OWNERS[work] for work in self.work), "work outlives its state"
        if state in (State.STOPPED, State.FAILED):
            assert not any((self.has_child, self.is_spawning, self.work)), "something is left"
        elif state in (State.FENCING, State.STOPPING):
            assert self.is_spawning or {Work.CHILD, Work.KILL} <= self.work, "nobody will kill it"
        else:
            assert self.work or self.is_spawning, f"{state} waits for nothing"
        if self.is_stopping:
            assert state in (State.STOPPING, State.STOPPED), f"asked to stop, yet {state}"


def walk(choices: list[tuple[int, float]]) -> World:
    world = World()
    world.feed(StartRequested())
    for choice, pause_s in choices:
        world.now += pause_s
        possible = world.possible()
        world.feed(possible[choice % len(possible)])
    return world


steps = st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 20.0, 40.0])), max_size=60)


@settings(max_examples=400, deadline=None)
@given(steps)
def test_every_walk_keeps_the_rules_and_can_be_stopped(choices: list[tuple[int, float]]) -> None:
    world = walk(choices)
    world.feed(StopRequested())
    if world.is_spawning:
        world.feed(Spawned(7))
    if world.has_child:
        world.feed(TimerFired(Work.KILL))
        world.feed(Exited(Exit(-9)))
    assert world.life.state is State.STOPPED


@settings(max_examples=100, deadline=None)
@given(steps, st.integers(0, 30))
def test_once_ready_it_is_never_given_up(choices: list[tuple[int, float]], setbacks: int) -> None:
    world = World()
    for event in (StartRequested(), Prepared(LAUNCH), Spawned(7), BecameReady("up")):
        world.feed(event)
    for choice, pause_s in choices + [(0, 0.0)] * setbacks:
        world.now += pause_s
        possible = [event for event in world.possible() if not isinstance(event, StopRequested | KillRequested)]
        world.feed(possible[choice % len(possible)])
        assert world.life.state is not State.FAILED


def test_the_walk_can_fail():
    world = walk([])
    world.has_child = True
    with pytest.raises(AssertionError, match="two children"):
        world.feed(Prepared(LAUNCH))

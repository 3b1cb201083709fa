"""Decide what to do about one child: values in, values out; design.md draws the states and gives the reasons."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rpc_wrapper.supervisor.actions import (
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
from rpc_wrapper.supervisor.restart import RestartPolicy
from rpc_wrapper.supervisor.status import State


@dataclass(frozen=True, slots=True)
class _Setback:
    text: str
    permanent: bool = False
    backend: str | None = None  # who is to blame, when it is not the child


class Lifecycle:
    """The life of one child as a state machine; feed it events, do the actions it returns, in order.

    The graces are what a child gets between SIGTERM and SIGKILL, asked to stop and fenced for a fault. ``jitter``
    returns a number in [0, 1]. The attributes are for reading only.
    """

    def __init__(
        self, policy: RestartPolicy, *, stop_grace_s: float, fence_grace_s: float, jitter: Callable[[], float]
    ) -> None:
        self.state = State.STOPPED
        self.reason = "not started yet"
        self.ever_ready = False
        self.generation = 0
        self.restarts = 0
        self.launch: Launch | None = None
        self._policy = policy
        self._stop_grace_s = stop_grace_s
        self._fence_grace_s = fence_grace_s
        self._jitter = jitter
        self._has_child = False  # from Spawned to Exited: while the spawn is under way there is nobody to signal
        self._kill_at_once = False
        self._failures: deque[float] = deque(maxlen=max(64, policy.breaker_failures))
        self._fenced_for: _Setback | None = None  # None: for a planned restart
        self._ready_since: float | None = None
        self._now = 0.0

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event at a moment of any monotonic clock, in seconds, and return what to do about it.

        An event that means nothing in the present state is ignored: a request may always come too late.
        """
        self._now = now
        handler = _TRANSITIONS[self.state].get(type(event))
        return list(handler(self, event)) if handler else []

    # On the way up.

    def _start(self, _: StartRequested) -> Iterator[Action]:
        self.ever_ready, self.restarts = False, -1
        self._failures.clear()
        yield from self._prepare("start requested")

    def _prepare(self, reason: str) -> Iterator[Action]:
        self._enter(State.PREPARING, reason)
        yield Prepare()

    def _prepare_again(self, event: RestartRequested) -> Iterator[Action]:
        yield from self._prepare(event.reason)

    def _try_again(self, _: TimerFired) -> Iterator[Action]:
        yield from self._prepare(f"trying again after {self.reason}")

    def _spawn(self, event: Prepared) -> Iterator[Action]:
        self._enter(State.STARTING, "prepared")
        self.launch = event.launch
        self.generation += 1
        self.restarts += 1
        yield Spawn(event.launch)

    def _await_ready(self, _: Spawned) -> Iterator[Action]:
        assert self.launch is not None
        self._has_child = True
        yield AwaitReady(self.launch)
        yield SetTimer(Work.DEADLINE, self.launch.ready_deadline_s)

    def _ready(self, event: BecameReady) -> Iterator[Action]:
        assert self.launch is not None
        self._enter(State.READY, event.detail)
        self.ever_ready = True
        self._ready_since = self._now
        yield Watch(self.launch)

    # Something went wrong: first make sure that the child is gone.

    def _fence_unready(self, event: ReadinessFailed) -> Iterator[Action]:
        yield from self._fence(event.reason, _Setback(event.reason, event.permanent))

    def _fence_late(self, _: TimerFired) -> Iterator[Action]:
        assert self.launch is not None
        text = f"not ready within {self.launch.ready_deadline_s:g} s"
        yield from self._fence(text, _Setback(text))

    def _fence_faulty(self, event: FaultFound) -> Iterator[Action]:
        yield from self._fence(event.fault.text, _Setback(event.fault.text, backend=event.fault.backend))

    def _fence_to_restart(self, event: RestartRequested) -> Iterator[Action]:
        yield from self._fence(event.reason, None)

    def _fence(self, reason: str, setback: _Setback | None) -> Iterator[Action]:
        self._fenced_for = setback
        self._enter(State.FENCING, reason)
        yield from self._take_down()

    def _fenced(self, event: Exited) -> Iterator[Action]:
        """Go on after the fence; a child that ended by itself meanwhile tells more than the one who saw it stumble."""
        self._has_child = False
        if self._fenced_for is None:
            yield from self._prepare(self.reason)
        elif event.exit.is_orderly:
            yield from self._set_back(self._fenced_for)
        else:
            permanent = self._fenced_for.permanent or event.exit.diagnosis.permanent
            text, backend = f"{self._fenced_for.text}; {event.exit}", self._fenced_for.backend
            yield from self._set_back(_Setback(text, permanent, backend or event.exit.diagnosis.backend))

    # A setback: try again later, or give up.

    def _not_begun(self, event: PrepareFailed | SpawnFailed) -> Iterator[Action]:
        yield from self._set_back(_Setback(event.text, event.permanent))

    def _lost(self, event: Exited) -> Iterator[Action]:
        self._has_child = False
        diagnosis = event.exit.diagnosis
        yield from self._set_back(_Setback(str(event.exit), diagnosis.permanent, diagnosis.backend))

    def _set_back(self, setback: _Setback) -> Iterator[Action]:
        self._end_spell()
        if not (self.ever_ready and setback.backend is not None):
            self._failures.append(self._now)
        if not self.ever_ready and setback.permanent:
            self._enter(State.FAILED, setback.text)
        elif not self.ever_ready and len(self._failures) >= self._policy.breaker_failures:
            self._enter(State.FAILED, f"gave up after {len(self._failures)} attempts: {setback.text}")
        else:
            yield from self._back_off(setback)

    def _back_off(self, setback: _Setback) -> Iterator[Action]:
        policy, is_innocent = self._policy, self.ever_ready and setback.backend is not None
        if self.ever_ready and not is_innocent and policy.is_crash_loop(self._failures, self._now):
            delay_s = policy.cooldown_s
            loop = f"crash loop, {policy.breaker_failures} failures within {policy.breaker_window_s:g} s: "
        else:
            delay_s = policy.delay_s(1 if is_innocent else len(self._failures), self._jitter())
            loop = ""
        self._enter(State.BACKOFF, f"{loop}{setback.text}")
        yield SetTimer(Work.BACKOFF, delay_s)

    # Somebody wants it gone.

    def _stop(self, _: StopRequested) -> Iterator[Action]:
        self._enter(State.STOPPING, "stop requested")
        yield from self._take_down()

    def _stop_fenced(self, _: StopRequested) -> Iterator[Action]:
        self._enter(State.STOPPING, "stop requested")  # it has had its SIGTERM, and the kill deadline runs
        yield from ()

    def _stop_childless(self, _: StopRequested | KillRequested) -> Iterator[Action]:
        self._enter(State.STOPPED, "stop requested")
        yield from ()

    def _stopped(self, event: Exited | SpawnFailed) -> Iterator[Action]:
        self._has_child = False
        self._enter(State.STOPPED, f"stopped, {event.exit}" if isinstance(event, Exited) else "stopped")
        yield from ()

    def _kill(self, _: KillRequested) -> Iterator[Action]:
        self._enter(State.STOPPING, "kill requested")
        self._kill_at_once = True
        yield from self._take_down()

    # Taking a child down, whatever the reason.

    def _take_down(self) -> Iterator[Action]:
        if self._has_child:
            yield KillGroup() if self._kill_at_once else Terminate()
            yield SetTimer(Work.KILL, self._grace_s)

    def _take_down_newborn(self, _: Spawned) -> Iterator[Action]:
        self._has_child = True
        yield from self._take_down()

    def _kill_overdue(self, _: TimerFired) -> Iterator[Action]:
        """Kill, and keep at it: a process stuck in the kernel dies late, and until it has nothing else may start."""
        yield KillGroup()
        yield SetTimer(Work.KILL, self._grace_s)

    @property
    def _grace_s(self) -> float:
        """Return how long the child may take to end: little when another is to follow.

        One that is at fault may never end, and a llama-server that still has streams only falls silent on SIGTERM.
        """
        return self._fence_grace_s if self.state is State.FENCING else self._stop_grace_s

    def _enter(self, state: State, reason: str) -> None:
        if self.state is State.READY:
            self._end_spell()
        if state is State.STARTING:
            self._kill_at_once = False
        self.state, self.reason = state, reason

    def _end_spell(self) -> None:
        """Forgive what was before a long enough spell of readiness."""
        if self._ready_since is not None and self._now - self._ready_since >= self._policy.reset_after_s:
            self._failures.clear()
        self._ready_since = None


_Handler = Callable[[Lifecycle, Any], Iterator[Action]]

# No state owns two timers (actions.OWNERS), so TimerFired alone says which.
_TRANSITIONS: Mapping[State, Mapping[type[Event], _Handler]] = {
    State.STOPPED: {
        StartRequested: Lifecycle._start,
    },
    State.PREPARING: {
        Prepared: Lifecycle._spawn,
        PrepareFailed: Lifecycle._not_begun,
        RestartRequested: Lifecycle._prepare_again,
        StopRequested: Lifecycle._stop_childless,
        KillRequested: Lifecycle._stop_childless,
    },
    State.STARTING: {
        Spawned: Lifecycle._await_ready,
        SpawnFailed: Lifecycle._not_begun,
        BecameReady: Lifecycle._ready,
        ReadinessFailed: Lifecycle._fence_unready,
        TimerFired: Lifecycle._fence_late,
        FaultFound: Lifecycle._fence_faulty,
        RestartRequested: Lifecycle._fence_to_restart,
        Exited: Lifecycle._lost,
        StopRequested: Lifecycle._stop,
        KillRequested: Lifecycle._kill,
    },
    State.READY: {
        FaultFound: Lifecycle._fence_faulty,
        RestartRequested: Lifecycle._fence_to_restart,
        Exited: Lifecycle._lost,
        StopRequested: Lifecycle._stop,
        KillRequested: Lifecycle._kill,
    },
    State.FENCING: {
        Spawned: Lifecycle._take_down_newborn,
        SpawnFailed: Lifecycle._not_begun,
        TimerFired: Lifecycle._kill_overdue,
        Exited: Lifecycle._fenced,
        StopRequested: Lifecycle._stop_fenced,
        KillRequested: Lifecycle._kill,
    },
    State.STOPPING: {
        Spawned: Lifecycle._take_down_newborn,
        SpawnFailed: Lifecycle._stopped,
        TimerFired: Lifecycle._kill_overdue,
        Exited: Lifecycle._stopped,
        KillRequested: Lifecycle._kill,
    },
    State.BACKOFF: {
        TimerFired: Lifecycle._try_again,
        RestartRequested: Lifecycle._prepare_again,
        StopRequested: Lifecycle._stop_childless,
        KillRequested: Lifecycle._stop_childless,
    },
    State.FAILED: {
        StartRequested: Lifecycle._start,
        StopRequested: Lifecycle._stop_childless,
        KillRequested: Lifecycle._stop_childless,
    },
}

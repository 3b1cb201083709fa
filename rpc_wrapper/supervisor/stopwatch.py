"""Time a recovery: from the moment a ready child was given up until the next one is ready. Pure."""

from dataclasses import dataclass

from rpc_wrapper.supervisor.events import BecameReady, Event, Exited, FaultFound, RestartRequested
from rpc_wrapper.supervisor.status import FaultKind, Recovery, State

_DOWN = (State.STOPPING, State.STOPPED, State.FAILED)


@dataclass(slots=True)
class _Lap:
    """A recovery under way."""

    began: float
    cause: str
    backend: str | None
    detected_after_s: float | None
    attempts: int = 0
    fence_s: float = 0.0
    wait_s: float = 0.0


class Stopwatch:
    """Feed it every event with the states before and after, and the time on any monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._lap: _Lap | None = None
        self._noted_at = 0.0

    def note(self, event: Event, before: State, after: State, now: float) -> Recovery | None:
        """Return the recovery that ends with this event, if one does."""
        elapsed_s, self._noted_at = now - self._noted_at, now
        if self._lap is not None:
            _add(self._lap, before, elapsed_s)
        if after in _DOWN:
            self._lap = None
        elif before is State.READY and after is not State.READY:
            self._lap = _begin(event, now)
        if self._lap is None:
            return None
        self._lap.attempts += after is State.STARTING and before is not State.STARTING
        return self._end(event, now) if isinstance(event, BecameReady) and after is State.READY else None

    def _end(self, event: BecameReady, now: float) -> Recovery | None:
        lap, self._lap = self._lap, None
        assert lap is not None
        return Recovery(
            cause=lap.cause,
            backend=lap.backend,
            attempts=lap.attempts,
            fence_s=lap.fence_s,
            wait_s=lap.wait_s,
            total_s=now - lap.began,
            detected_after_s=lap.detected_after_s,
            load_s=event.load_s,
            first_token_s=event.first_token_s,
        )


def _add(lap: _Lap, state: State, elapsed_s: float) -> None:
    if state is State.FENCING:
        lap.fence_s += elapsed_s
    elif state in (State.BACKOFF, State.PREPARING):
        lap.wait_s += elapsed_s


def _begin(event: Event, now: float) -> _Lap:
    match event:
        case FaultFound(fault):
            return _Lap(now, fault.kind.value, fault.backend, fault.detected_after_s)
        case Exited(exit):
            return _Lap(now, FaultKind.EXIT.value, exit.diagnosis.backend, 0.0)
        case RestartRequested():
            return _Lap(now, FaultKind.REQUESTED.value, None, None)
        case _:
            raise AssertionError(f"{event} cannot end readiness")

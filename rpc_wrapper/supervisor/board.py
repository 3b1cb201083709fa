"""Publish what is known about a child to whoever wants to know: one writer, any number of readers, no queue."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator

from rpc_wrapper.logs import fields, redact, redact_argv
from rpc_wrapper.supervisor.duties import Clock
from rpc_wrapper.supervisor.events import Event, Exited, FaultFound
from rpc_wrapper.supervisor.lifecycle import Lifecycle
from rpc_wrapper.supervisor.process import Child
from rpc_wrapper.supervisor.status import Exit, Fault, FaultKind, Occurrence, Recovery, Snapshot, State
from rpc_wrapper.supervisor.stopwatch import Stopwatch

_HISTORY_KEPT = 200
_LINES_SHOWN = 20
_LEVELS = {State.FAILED: logging.ERROR, State.BACKOFF: logging.WARNING, State.FENCING: logging.WARNING}


class Board:
    """The public side of one child: its history, its progress, and a bell that rings at each change.

    Secrets are removed from everything that is published.
    """

    def __init__(self, name: str, life: Lifecycle, clock: Clock) -> None:
        self.child: Child | None = None  # from its spawn until its exit has been handled
        self.last_exit: Exit | None = None
        self._name = name
        self._life = life
        self._clock = clock
        self._stopwatch = Stopwatch()
        self._since = clock.wall()
        self._progress = ""
        self._history: deque[Occurrence] = deque(maxlen=_HISTORY_KEPT)
        self._occurrences = 0
        self._shown = (life.state, life.reason)
        self._changes = 0
        self._bell = asyncio.Event()  # replaced at each change, so that nobody misses one
        self._log = logging.getLogger(f"{__name__}.{name}")

    def report(self, progress: str) -> None:
        """Publish how far the present state has come; the line goes when the state does."""
        self._progress = redact(progress)
        self.ring()

    def note(self, text: str) -> None:
        """Publish something worth knowing that changes nothing."""
        self._add("note", text, "Noted")
        self._log.info("%s: %s", self._name, redact(text))
        self.ring()

    def publish(self, cause: Event) -> None:
        """Publish what an event has changed; a new state, a new reason and any fault enter the history."""
        if isinstance(cause, Exited):
            self.child, self.last_exit = None, cause.exit
        before, (state, reason) = self._shown[0], (self._life.state, self._life.reason)
        recovery = self._stopwatch.note(cause, before, state, self._clock.monotonic())
        fault = _fault_of(cause, before)
        if (state, reason) != self._shown:
            self._add(state, reason, type(cause).__name__, fault, recovery)
            given = fields(source=self._name, state=state.value, **_about(fault))
            level = _LEVELS.get(state, logging.INFO)
            self._log.log(level, "%s is %s: %s", self._name, state, redact(reason), extra=given)
        elif fault is not None:  # seen while the child was not up anyway
            self._add("fault", fault.text, "FaultFound", fault)
        if state is not before:
            self._since, self._progress = self._clock.wall(), ""
        self._shown = (state, reason)
        self.ring()

    def snapshot(self) -> Snapshot:
        """Return what is known now."""
        life, child = self._life, self.child
        if child is not None:
            last_lines = tuple(redact(line) for line in child.lines.last(_LINES_SHOWN))
        else:
            last_lines = self.last_exit.last_lines[-_LINES_SHOWN:] if self.last_exit else ()
        return Snapshot(
            name=self._name,
            state=life.state,
            since=self._since,
            reason=redact(life.reason),
            progress=self._progress,
            pid=child.pid if child else None,
            argv=redact_argv(life.launch.argv) if life.launch else (),
            generation=life.generation,
            restarts=life.restarts,
            ever_ready=life.ever_ready,
            last_exit=self.last_exit,
            last_lines=last_lines,
            history=tuple(self._history),
        )

    async def change(self) -> None:
        """Wait for the next change."""
        await self._bell.wait()

    async def subscribe(self) -> AsyncIterator[Snapshot]:
        """Yield what is known now, and again after each change.

        A slow reader gets the newest only and holds nobody up; gaps in ``Occurrence.number`` show what it missed.
        """
        seen = -1
        while True:
            while seen == self._changes:
                await self.change()
            seen = self._changes
            yield self.snapshot()

    def _add(
        self, kind: str, text: str, cause: str, fault: Fault | None = None, recovery: Recovery | None = None
    ) -> None:
        self._history.append(
            Occurrence(self._occurrences, self._clock.wall(), kind, redact(text), cause, fault, recovery)
        )
        self._occurrences += 1

    def ring(self) -> None:
        """Wake everybody who waits for a change."""
        self._changes += 1
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()


def _fault_of(cause: Event, before: State) -> Fault | None:
    """Return the fault that an event is; an exit nobody asked for is one, noticed at once."""
    if isinstance(cause, FaultFound):
        return cause.fault
    if isinstance(cause, Exited) and before in (State.STARTING, State.READY):
        return Fault(FaultKind.EXIT, str(cause.exit), cause.exit.diagnosis.backend, detected_after_s=0.0)
    return None


def _about(fault: Fault | None) -> dict[str, object]:
    """Return what a log line says of a fault beside its sentence."""
    if fault is None:
        return {}
    about = {"fault": fault.kind.value, "backend": fault.backend, "detected_after_s": fault.detected_after_s}
    return {name: value for name, value in about.items() if value is not None}

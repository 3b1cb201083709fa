"""Publish what is known about a child to whoever wants to know: one writer, any number of readers, no queue."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable

from rpc_wrapper.logs import redact, redact_argv
from rpc_wrapper.supervisor.events import Event, Exited, FaultFound
from rpc_wrapper.supervisor.lifecycle import Lifecycle
from rpc_wrapper.supervisor.process import Child
from rpc_wrapper.supervisor.status import Exit, Occurrence, Snapshot, State

_HISTORY_KEPT = 200
_LINES_SHOWN = 20
_LEVELS = {State.FAILED: logging.ERROR, State.BACKOFF: logging.WARNING, State.FENCING: logging.WARNING}


class Board:
    """The public side of one child: its history, its progress, and a bell that rings at each change.

    ``wall`` returns Unix seconds. Secrets are removed from everything that is published.
    """

    def __init__(self, name: str, life: Lifecycle, wall: Callable[[], float]) -> None:
        self.child: Child | None = None  # from its spawn until its exit has been handled
        self.last_exit: Exit | None = None
        self._name = name
        self._life = life
        self._wall = wall
        self._since = wall()
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

    def publish(self, cause: Event) -> None:
        """Publish what an event has changed; a new state, a new reason and any fault enter the history."""
        if isinstance(cause, Exited):
            self.child, self.last_exit = None, cause.exit
        state, reason = self._life.state, self._life.reason
        fault = cause.fault if isinstance(cause, FaultFound) else None
        if (state, reason) != self._shown:
            self._add(Occurrence(self._occurrences, self._wall(), state, redact(reason), type(cause).__name__, fault))
            self._log.log(_LEVELS.get(state, logging.INFO), "%s is %s: %s", self._name, state, reason)
        elif fault is not None:  # seen while the child was not up anyway
            self._add(Occurrence(self._occurrences, self._wall(), "fault", redact(fault.text), "FaultFound", fault))
        if state != self._shown[0]:
            self._since, self._progress = self._wall(), ""
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

    def _add(self, occurrence: Occurrence) -> None:
        self._history.append(occurrence)
        self._occurrences += 1

    def ring(self) -> None:
        """Wake everybody who waits for a change."""
        self._changes += 1
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

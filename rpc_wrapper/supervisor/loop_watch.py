"""Notice when the event loop stands still: a thread looks at a heartbeat that only a turning loop can give.

One that stands still cannot say so, and the healthchecks that get no answer cannot say why. So the thread writes down
where the loop hangs while it hangs, and what it was afterwards is told by :class:`Stalls`.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import Any, Self

BEAT_S = 0.5
STALL_S = 1.0
REMEMBERED_S = 600.0
_DEEPEST = 12  # frames shown

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stalls:
    """How often the loop stood still since the start, and of the last ten minutes the longest time, in seconds."""

    count: int = 0
    longest_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"count": self.count, "longest_s": round(self.longest_s, 3), "within_s": REMEMBERED_S}


class Ledger:
    """What a beating heart says about its stops; pure, times in seconds of any clock that never goes back.

    ``slept_s`` is by how much the watcher itself overslept: then the whole process was stopped, not the loop.
    """

    def __init__(self, now: float) -> None:
        self._beat_at = now
        self._count = 0
        self._is_told = False
        self._recent: deque[tuple[float, float]] = deque()

    def beat(self, now: float) -> None:
        """Take note that the loop turns."""
        gap_s, self._beat_at = now - self._beat_at, now
        if self._is_told:
            self._recent.append((now, gap_s))
        self._is_told = False

    def look(self, now: float, slept_s: float) -> float | None:
        """Return for how long the loop has stood still, once per stall."""
        if slept_s > 0:
            self._beat_at = min(now, self._beat_at + slept_s)
        gap_s = now - self._beat_at
        if self._is_told or gap_s < STALL_S:
            return None
        self._is_told = True
        self._count += 1
        return gap_s

    def stalls(self, now: float) -> Stalls:
        """Return the sum of it."""
        while self._recent and now - self._recent[0][0] > REMEMBERED_S:
            self._recent.popleft()
        return Stalls(self._count, max((gap_s for _, gap_s in self._recent), default=0.0))


class LoopWatch:
    """Watch the running loop for as long as the context lasts."""

    def __init__(self) -> None:
        self._ledger = Ledger(time.monotonic())
        self._is_over = threading.Event()
        self._beating: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    @property
    def stalls(self) -> Stalls:
        """Return what was seen so far."""
        return self._ledger.stalls(time.monotonic())

    async def __aenter__(self) -> Self:
        self._ledger.beat(time.monotonic())
        self._is_over.clear()
        self._beating = asyncio.get_running_loop().create_task(self._beat(), name="loop watch")
        self._thread = threading.Thread(
            target=self._look, args=(threading.get_ident(),), name="loop watch", daemon=True
        )
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over.set()
        assert self._beating is not None
        self._beating.cancel()
        await asyncio.wait([self._beating])

    async def _beat(self) -> None:
        while True:
            self._ledger.beat(time.monotonic())
            await asyncio.sleep(BEAT_S)

    def _look(self, loop_thread: int) -> None:
        before = time.monotonic()
        while not self._is_over.wait(BEAT_S):
            now = time.monotonic()
            overslept_s, before = max(0.0, now - before - 2 * BEAT_S), now
            stalled_s = self._ledger.look(now, overslept_s)
            if stalled_s is not None:
                log.warning("the event loop has stood still for %.1f s, in:\n%s", stalled_s, _stack(loop_thread))


def _stack(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)[-_DEEPEST:]) if frame is not None else "(it has ended)"

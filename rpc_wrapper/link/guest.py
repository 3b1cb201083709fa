"""Those who knock at the gate: one connection in the lobby, and the book of who was turned away."""

import asyncio
import logging
from collections import Counter
from enum import StrEnum
from time import monotonic

from rpc_wrapper.link.end import End
from rpc_wrapper.link.lobby import Lobby

log = logging.getLogger(__name__)

_LOG_INTERVAL_S = 1.0  # neither a port scan nor a client gone wild may fill the disk


class Refusal(StrEnum):
    """Why somebody was turned away."""

    BUSY = "busy"
    NOT_READY = "not ready"
    CROWDED = "crowded"
    NOT_RPC = "not RPC"
    TOO_SLOW = "too slow"
    HANDSHAKE = "handshake"


class TurnedAway(Exception):
    """A guest must leave; the message is a clause."""

    def __init__(self, refusal: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.refusal = refusal


class Guest:
    """A connection in the lobby; ``opening`` becomes its first bytes for the worker, empty when it leaves before."""

    def __init__(self) -> None:
        self.end = End(self._said, self._left)
        self.lobby: Lobby | None = None
        self.greeted = asyncio.Event()
        self.opening: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.patience: asyncio.Timeout | None = None  # what is left of it
        self.is_displaced = False

    def displace(self) -> None:
        """End its patience now, wherever its visit has got to."""
        self.is_displaced = True
        if self.patience is not None and not self.patience.expired():
            self.patience.reschedule(asyncio.get_running_loop().time())

    def _said(self, data: bytes) -> None:
        if self.lobby is None or self.opening.done():
            return
        visit = self.lobby.receive(data)
        self.end.write([visit.answers])
        if self.lobby.is_greeted:
            self.greeted.set()
        if visit.error:
            self.greeted.set()
            self.opening.set_exception(TurnedAway(Refusal.NOT_RPC, visit.error))
        elif visit.opening:
            self.end.brake()  # until the session takes over
            self.opening.set_result(visit.opening)

    def _left(self, error: Exception | None) -> None:
        self.greeted.set()
        if not self.opening.done():
            self.opening.set_result(b"")


class Diary:
    """A log that has one line a second at most, and says how many it left out."""

    def __init__(self) -> None:
        self._written_at = float("-inf")
        self._unwritten = 0

    def write(self, sentence: str, level: int = logging.WARNING) -> None:
        """Log a sentence, unless another was logged just before."""
        now = monotonic()
        if now - self._written_at < _LOG_INTERVAL_S:
            self._unwritten += 1
            return
        also = f" (and {self._unwritten} others before it)" if self._unwritten else ""
        log.log(level, "%s%s", sentence, also)
        self._written_at, self._unwritten = now, 0


class Refusals:
    """Count who was turned away and why; log it."""

    def __init__(self) -> None:
        self.counts: Counter[Refusal] = Counter()
        self._diary = Diary()

    def add(self, peer: str, reason: TurnedAway) -> None:
        """Note one refusal."""
        self.counts[reason.refusal] += 1
        level = logging.INFO if reason.refusal is Refusal.NOT_READY else logging.WARNING  # every start has some
        self._diary.write(f"turned away {peer}: {reason}", level)

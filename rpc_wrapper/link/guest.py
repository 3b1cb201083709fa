"""Those who knock at the gate: one connection in the lobby, and the book of who was turned away."""

import asyncio
import logging
from collections import Counter
from enum import StrEnum
from time import monotonic

from rpc_wrapper.link.end import End
from rpc_wrapper.link.lobby import Lobby

log = logging.getLogger(__name__)

_LOG_INTERVAL_S = 1.0  # of refusals: a port scan must not fill the disk


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


class Refusals:
    """Count who was turned away and why; log it, but not a flood of it."""

    def __init__(self) -> None:
        self.counts: Counter[Refusal] = Counter()
        self._logged_at = float("-inf")
        self._unlogged = 0

    def add(self, peer: str, reason: TurnedAway) -> None:
        """Note one refusal."""
        self.counts[reason.refusal] += 1
        now = monotonic()
        if now - self._logged_at < _LOG_INTERVAL_S:
            self._unlogged += 1
            return
        also = f" (and {self._unlogged} others before it)" if self._unlogged else ""
        level = logging.INFO if reason.refusal is Refusal.NOT_READY else logging.WARNING  # every start has some
        log.log(level, "turned away %s: %s%s", peer, reason, also)
        self._logged_at, self._unlogged = now, 0

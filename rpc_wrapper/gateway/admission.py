"""Who is inside, who waits, who is sent away: :class:`Line` decides (no I/O), :class:`Gate` lets callers wait.

At most ``slots`` requests run and ``max_queue`` wait, in the order they came. One more is refused at once.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from rpc_wrapper.errors import NotReady, QueueFull

DRAIN_RETRY_S = 10.0
WAITED_RETRY_S = 30.0


class Line:
    """A bounded first-come-first-served line; tickets are numbers that only grow."""

    def __init__(self, slots: int, max_queue: int) -> None:
        self.slots = slots
        self.max_queue = max_queue
        self.draining = False
        self._tickets = count(1)
        self._running: set[int] = set()
        self._waiting: dict[int, None] = {}  # a set that remembers the order

    def __repr__(self) -> str:
        state = "draining" if self.draining else "open"
        return f"<Line {state}, {len(self._running)}/{self.slots} run, {len(self._waiting)}/{self.max_queue} wait>"

    @property
    def running(self) -> int:
        """Return how many run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def enter(self) -> int:
        """Return a ticket; raise QueueFull when nobody more may wait, NotReady when draining."""
        if self.draining:
            raise NotReady(
                "The server is being drained and takes no new requests: try another, or later.", DRAIN_RETRY_S
            )
        if self.running >= self.slots and self.waiting >= self.max_queue:
            raise QueueFull(
                f"{self.running} requests run and {self.waiting} wait already, which is all that APP_MAX_QUEUE allows: "
                "try again later."
            )
        ticket = next(self._tickets)
        if self.running < self.slots:
            self._running.add(ticket)
        else:
            self._waiting[ticket] = None
        return ticket

    def may_run(self, ticket: int) -> bool:
        """Tell whether a ticket's turn has come."""
        return ticket in self._running

    def leave(self, ticket: int) -> int | None:
        """Give a ticket back, whether it ran or waited; return the ticket whose turn has come by that, if any."""
        self._waiting.pop(ticket, None)
        self._running.discard(ticket)
        if self.running >= self.slots or not self._waiting:
            return None
        promoted = next(iter(self._waiting))
        del self._waiting[promoted]
        self._running.add(promoted)
        return promoted


class Gate:
    """The asyncio shell around one :class:`Line`."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._turns: dict[int, asyncio.Future[None]] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def place(self, timeout_s: float) -> AsyncIterator[None]:
        """Hold a running place; raise QueueFull at once or NotReady when the turn did not come in time.

        Leaving the context, by an exception or a cancellation too, gives the place to the next in line.
        """
        ticket = self.line.enter()
        self._empty.clear()
        try:
            await self._turn(ticket, timeout_s)
            yield
        finally:
            self._leave(ticket)

    def drain(self) -> None:
        """Refuse whoever comes from now on; those inside stay."""
        self.line.draining = True

    def admit(self) -> None:
        """Take in again whoever comes."""
        self.line.draining = False

    async def wait_empty(self) -> None:
        """Wait until nobody is inside."""
        await self._empty.wait()

    async def _turn(self, ticket: int, timeout_s: float) -> None:
        if self.line.may_run(ticket):
            return
        turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except TimeoutError:
            message = f"No slot became free in {timeout_s:g} s (APP_QUEUE_WAIT_S): try again later."
            raise NotReady(message, WAITED_RETRY_S) from None

    def _leave(self, ticket: int) -> None:
        self._turns.pop(ticket, None)
        promoted = self.line.leave(ticket)
        if promoted is not None and not (turn := self._turns[promoted]).done():
            turn.set_result(None)
        if not self.line.running and not self.line.waiting:
            self._empty.set()


class Doors:
    """All gates of one gateway, closed and opened together."""

    def __init__(self, gates: Collection[Gate]) -> None:
        self._gates = gates
        self._is_ending = False

    @property
    def are_closed(self) -> bool:
        """Tell whether whoever comes now is sent away."""
        return any(gate.line.draining for gate in self._gates)

    def close(self) -> None:
        """Take no new requests; those inside finish."""
        for gate in self._gates:
            gate.drain()

    def open(self) -> None:
        """Take requests again; raise NotReady when the process is about to end."""
        if self._is_ending:
            raise NotReady("The server is shutting down and stays closed: start it again.", DRAIN_RETRY_S)
        for gate in self._gates:
            gate.admit()

    async def drain(self, timeout_s: float) -> bool:
        """Close for good, and wait for those inside; tell whether all of them finished in ``timeout_s``."""
        self._is_ending = True
        self.close()
        try:
            async with asyncio.timeout(timeout_s):
                for gate in self._gates:
                    await gate.wait_empty()
        except TimeoutError:
            return False
        return True

    def to_json(self) -> dict[str, Any]:
        """Return whether requests are taken, and how many are inside."""
        running = sum(gate.line.running for gate in self._gates)
        waiting = sum(gate.line.waiting for gate in self._gates)
        status = "open" if not self.are_closed else "draining" if running + waiting else "drained"
        return {"status": status, "running": running, "waiting": waiting}

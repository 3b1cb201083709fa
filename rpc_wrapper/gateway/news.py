"""What the links have told: their events, waiting for somebody to heed them, and the faults that they mean."""

import asyncio
import logging

from rpc_wrapper.link.events import LinkEvent, Refused, Silence
from rpc_wrapper.supervisor import Fault, FaultKind

log = logging.getLogger(__name__)


class News:
    """Events in the order they happened; :meth:`tell` is what links are given to call."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[LinkEvent] = asyncio.Queue()

    def tell(self, event: LinkEvent) -> None:
        """Take an event."""
        self._events.put_nowait(event)

    def drain(self) -> list[Fault]:
        """Return every fault that has been told and not heeded yet."""
        events = [self._events.get_nowait() for _ in range(self._events.qsize())]
        return [fault for fault in map(fault_of, events) if fault is not None]

    async def next_fault(self) -> Fault:
        """Wait for a link to lose its backend or to find it silent."""
        while True:
            fault = fault_of(await self._events.get())
            if fault is not None:
                return fault


def fault_of(event: LinkEvent) -> Fault | None:
    """Return what an event means for the engine; a refused buffer it survives, or says itself why it does not."""
    backend = str(event.endpoint)
    if isinstance(event, Refused):
        log.error("%s", event)
        return None
    if isinstance(event, Silence):
        return Fault(FaultKind.SILENCE, str(event), backend, "", event.waited_s, event.deadline_s)
    return Fault(FaultKind.CONNECTION, str(event), backend, detected_after_s=0.0)

"""What the links have told: the faults that their events mean, waiting for somebody to heed them."""

import asyncio
import logging

from rpc_wrapper.link.events import LinkEvent, Refused, Silence
from rpc_wrapper.supervisor import Fault, FaultKind

log = logging.getLogger(__name__)


class News:
    """Faults in the order they happened, kept until they are drained; :meth:`tell` is what links are given to call."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._arrival = asyncio.Event()

    def tell(self, event: LinkEvent) -> None:
        """Take an event."""
        fault = fault_of(event)
        if fault is not None:
            self._faults.append(fault)
            self._arrival.set()

    def drain(self) -> list[Fault]:
        """Return every fault that was told since the last time."""
        faults, self._faults = self._faults, []
        self._arrival.clear()
        return faults

    async def first_fault(self) -> Fault:
        """Wait for a link to lose its backend or to find it silent.

        The fault stays until it is drained: whoever waits here may be cancelled by the exit that the loss has caused.
        """
        await self._arrival.wait()
        return self._faults[0]


def fault_of(event: LinkEvent) -> Fault | None:
    """Return what an event means for the engine; a refused buffer it survives, or says itself why it does not."""
    backend = str(event.endpoint)
    if isinstance(event, Refused):
        log.error("%s", event)
        return None
    if isinstance(event, Silence):
        return Fault(FaultKind.SILENCE, str(event), backend, "", event.waited_s, event.deadline_s)
    return Fault(FaultKind.CONNECTION, str(event), backend, detected_after_s=0.0)

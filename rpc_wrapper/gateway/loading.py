"""Watch one load from outside: by the bytes on its links and the lines of its log."""

import asyncio
import time
from collections import Counter

from rpc_wrapper.engine.loadlog import Phase
from rpc_wrapper.gateway.links import Links
from rpc_wrapper.gateway.load_watch import LoadLimits, LoadSigns, LoadWatch
from rpc_wrapper.gateway.start import Start
from rpc_wrapper.supervisor import Fault
from rpc_wrapper.supervisor.effects import Report

LOOK_S = 0.5
LOAD_PHASES = frozenset({Phase.STARTING, Phase.READING, Phase.LOADING})


class Loading:
    """One start on its way; one that stands still for longer than ``limits`` and its work allow is a fault."""

    def __init__(self, start: Start, links: Links, file_bytes: int, limits: LoadLimits) -> None:
        self._start = start
        self._links = links
        self._held_before = self._held()
        self._watch = LoadWatch(expected_bytes(start), file_bytes, limits, time.monotonic())

    async def until_silent(self, report: Report) -> Fault:
        """Report how far it is, until it stands still for too long."""
        while True:
            now = time.monotonic()
            self._watch.observe(self._signs(), now)
            fault = self._watch.fault(now)
            if fault is not None:
                return fault
            report(self._progress())
            await asyncio.sleep(LOOK_S)

    def to_json(self) -> dict[str, float | None]:
        """Return how far it is: weights the backends hold and are to hold, and the seconds left at the speed so far."""
        left_s = self._watch.left_s()
        return {
            "done_bytes": self._watch.loaded_bytes,
            "total_bytes": self._watch.total_bytes,
            "left_s": None if left_s is None else round(left_s, 1),
        }

    def _progress(self) -> str:
        phase = self._start.log.phase
        details = self._watch.describe() if phase is Phase.LOADING else ""
        return f"{phase.value}: {details}" if details else phase.value

    def _signs(self) -> LoadSigns:
        moved = {
            str(endpoint): meter.bytes_to_backend + meter.bytes_from_backend
            for endpoint, (_, meter) in self._links.snapshots().items()
        }
        held = {name: size - self._held_before.get(name, 0) for name, size in self._held().items()}
        return LoadSigns(moved, held, self._start.log.n_lines, self._start.log.phase not in LOAD_PHASES)

    def _held(self) -> dict[str, int]:
        """Return the weights each link has seen; links outlive starts, so they count those of earlier ones too."""
        return {
            str(endpoint): meter.weights_pushed_bytes + meter.weights_found_bytes
            for endpoint, (_, meter) in self._links.snapshots().items()
        }


def expected_bytes(start: Start) -> dict[str, int]:
    """Return the weights that each backend is to hold, by its address."""
    expected: Counter[str] = Counter()
    for part in start.plan.assignments:
        if part.endpoint is not None:
            expected[str(part.endpoint)] += part.weights_bytes
    return dict(expected)

"""Which backends may be used again: one that failed has to answer several probes in a row first. Pure.

A backend that fails again and again needs twice as many each time, up to :data:`MOST_DOUBLINGS` doublings, so one that
flaps costs fewer and fewer restarts. Whoever was free for :data:`FORGIVEN_AFTER_S` without a failure starts anew.
"""

from dataclasses import dataclass, replace

MOST_DOUBLINGS = 5
FORGIVEN_AFTER_S = 60.0
FLAPS_AT = 3  # failures in a row


@dataclass(frozen=True, slots=True)
class Confinement:
    """Why a backend may not be used, how many probes it has answered since, and how many it must."""

    reason: str
    needed: int
    answered: int = 0
    strikes: int = 1

    @property
    def is_flapping(self) -> bool:
        """Tell whether it has failed so often that nobody should wait for it."""
        return self.strikes >= FLAPS_AT

    def __str__(self) -> str:
        return f"in quarantine ({self.answered} of {self.needed} probes answered): {self.reason}"


class Quarantine:
    """The backends that failed, by their address ``host:port``; times are seconds of any clock that never goes back."""

    def __init__(self, probes: int) -> None:
        self._probes = probes
        self._confined: dict[str, Confinement] = {}
        self._strikes: dict[str, tuple[int, float]] = {}  # of those that are free again, and since when they are

    def confine(self, backend: str, reason: str, now: float) -> bool:
        """Confine a backend that failed; False when it was confined already, and only begins to count anew."""
        known = self._confined.get(backend)
        if known is not None:
            self._confined[backend] = replace(known, answered=0)
            return False
        self._strikes = {each: it for each, it in self._strikes.items() if now - it[1] <= FORGIVEN_AFTER_S}
        strikes = self._strikes.pop(backend, (0, now))[0] + 1
        needed = self._probes << min(strikes - 1, MOST_DOUBLINGS)
        self._confined[backend] = Confinement(reason, needed, strikes=strikes)
        return True

    def probed(self, backend: str, now: float, *, answered: bool) -> bool:
        """Count a probe; True when it was the last one needed. An answer that fails to come makes it begin anew."""
        known = self._confined.get(backend)
        if known is None:
            return False
        known = replace(known, answered=known.answered + 1 if answered else 0)
        if known.answered >= known.needed:
            del self._confined[backend]
            self._strikes[backend] = known.strikes, now
            return True
        self._confined[backend] = known
        return False

    def relent(self) -> None:
        """Be content with as many probes as after a first failure; who has answered so many goes with its next one."""
        for backend, known in self._confined.items():
            self._confined[backend] = replace(known, needed=self._probes)

    def of(self, backend: str) -> Confinement | None:
        """Return why a backend may not be used, None when it may."""
        return self._confined.get(backend)

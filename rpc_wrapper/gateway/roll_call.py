"""Decide from a survey of the backends whether to start, to wait or to give up. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rpc_wrapper.gateway.backends import BackendReport


class Decision(StrEnum):
    """What a roll call leads to."""

    GO = "go"
    GO_IF_IT_FITS = "go if it fits"
    WAIT = "wait"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a start waits for its backends, in seconds: the first one ``wait_s``, later ones ``rejoin_wait_s``.

    ``min_backends`` None is every backend for the first start, and as many as the model needs for later ones.
    """

    wait_s: float = 120.0
    rejoin_wait_s: float = 5.0
    min_backends: int | None = None


@dataclass(frozen=True, slots=True)
class RollCall:
    """Who answered: those a start can use, those to wait for, and those waiting cannot mend.

    ``lost`` are those among the absent that the last start had, and that may be back in a moment: not the flapping.
    """

    usable: tuple[BackendReport, ...]
    missing: tuple[BackendReport, ...]
    hopeless: tuple[BackendReport, ...]
    lost: tuple[BackendReport, ...] = ()

    @property
    def absent(self) -> tuple[BackendReport, ...]:
        """Return everybody who cannot be used, the hopeless first."""
        return (*self.hopeless, *self.missing)

    def needed(self, min_backends: int | None) -> int:
        """Return how many a first start needs."""
        total = len(self.usable) + len(self.absent)
        return total if min_backends is None else min(min_backends, total)

    @property
    def sentence(self) -> str:
        """Say who is absent, each with its last answer."""
        if not self.absent:
            return "every backend answers"
        answers = "; ".join(report.excuse for report in self.absent)
        total = len(self.usable) + len(self.absent)
        return f"{len(self.usable)} of {total} backends can be used: {answers}"


def call_roll(reports: Sequence[BackendReport], last_used: Collection[str] = ()) -> RollCall:
    """Sort the reports; ``last_used`` are the addresses of the last start's backends."""
    absent = [report for report in reports if not report.may_be_used]
    return RollCall(
        usable=tuple(report for report in reports if report.may_be_used),
        missing=tuple(report for report in absent if not report.is_hopeless),
        hopeless=tuple(report for report in absent if report.is_hopeless),
        lost=tuple(report for report in absent if str(report.endpoint) in last_used and not report.is_flapping),
    )


def decide(roll: RollCall, patience: Patience, waited_s: float, *, was_ready: bool) -> Decision:
    """Decide what to do after having waited so long.

    The first start takes everybody it was told of, or gives up: a wrong list is better told than worked around. Later
    ones wait only a moment for who was just lost, and then go on with whoever is left if the model fits there.
    """
    if not roll.absent:
        return Decision.GO
    if was_ready:
        is_over = waited_s >= patience.rejoin_wait_s or not roll.lost
        is_enough = len(roll.usable) >= (patience.min_backends or 0)
        return Decision.GO_IF_IT_FITS if is_over and is_enough else Decision.WAIT
    if roll.hopeless:
        return Decision.GIVE_UP
    if waited_s < patience.wait_s:
        return Decision.WAIT
    return Decision.GO if len(roll.usable) >= roll.needed(patience.min_backends) else Decision.GIVE_UP

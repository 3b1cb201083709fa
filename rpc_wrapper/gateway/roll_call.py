"""Decide from a survey of the backends whether to start, to wait or to give up."""

from collections.abc import Sequence
from dataclasses import dataclass

from rpc_wrapper.gateway.backends import BackendReport


@dataclass(frozen=True, slots=True)
class RollCall:
    """Who answered: those a start can use, those to wait for, and those waiting cannot mend."""

    usable: tuple[BackendReport, ...]
    missing: tuple[BackendReport, ...]
    hopeless: tuple[BackendReport, ...]
    needed: int

    @property
    def is_complete(self) -> bool:
        """Tell whether every listed backend can be used."""
        return not self.missing and not self.hopeless

    @property
    def is_enough(self) -> bool:
        """Tell whether as many can be used as APP_MIN_BACKENDS asks for."""
        return len(self.usable) >= self.needed and not self.hopeless

    @property
    def sentence(self) -> str:
        """Say who is missing, each with its last answer."""
        absent = (*self.hopeless, *self.missing)
        if not absent:
            return "every backend answers"
        answers = "; ".join(
            f"{report.endpoint} is {report.probe.state.value}: {report.probe.detail}" for report in absent
        )
        total = len(self.usable) + len(absent)
        return f"{len(self.usable)} of {total} backends answer, {self.needed} are needed: {answers}"


def call_roll(reports: Sequence[BackendReport], min_backends: int | None) -> RollCall:
    """Sort the reports; `min_backends` of None needs every one of them."""
    return RollCall(
        usable=tuple(report for report in reports if report.is_usable),
        missing=tuple(report for report in reports if not report.is_usable and not report.is_hopeless),
        hopeless=tuple(report for report in reports if report.is_hopeless),
        needed=len(reports) if min_backends is None else min(min_backends, len(reports)),
    )

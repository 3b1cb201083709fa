"""Gather the backends for a start: the one owner of their list, of their quarantine and of the newest reports."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConfigError, PlanError, ProcessError
from rpc_wrapper.gateway.backends import BackendReport, Scout
from rpc_wrapper.gateway.quarantine import Quarantine
from rpc_wrapper.gateway.roll_call import Decision, Patience, RollCall, call_roll, decide
from rpc_wrapper.gateway.roster import Roster
from rpc_wrapper.rpc.agent import AgentStatus
from rpc_wrapper.supervisor import PermanentFailure
from rpc_wrapper.supervisor.effects import Report

# Between two surveys while somebody is absent: most who are lost come back at once, the others may take hours.
SURVEY_PAUSE_S, LATER_PAUSE_S, LATER_S = 0.1, 0.5, 15.0

Note = Callable[[str], None]
Fit = Callable[[RollCall], object]  # raises PlanError


class Muster:
    """Everybody who is listed; ``note`` publishes what happens to them."""

    def __init__(self, listed: Sequence[Endpoint], scout: Scout, patience: Patience, probes: int) -> None:
        self.roster = Roster(tuple(listed))
        self.reports: tuple[BackendReport, ...] = ()
        self.note: Note = lambda text: None
        self._scout = scout
        self._patience = patience
        self._quarantine = Quarantine(probes)

    async def gather(self, last_used: Collection[str], report: Report, fit: Fit | None) -> RollCall:
        """Survey until a start may go on; raise PermanentFailure when a first start must be given up.

        ``last_used`` are the addresses that the last start had. Later starts are given ``fit``, which raises PlanError
        when the model does not fit on who is left: they go on without the absent, and never give up.
        """
        began = time.monotonic()
        while True:
            await self.survey()
            roll = call_roll(self.reports, last_used)
            waited_s = time.monotonic() - began
            decision = decide(roll, self._patience, waited_s, was_ready=fit is not None)
            refusal = _refusal(fit, roll) if fit and decision is Decision.GO_IF_IT_FITS else ""
            if decision is Decision.GO or (decision is Decision.GO_IF_IT_FITS and not refusal):
                return roll
            if decision is Decision.GIVE_UP:
                raise PermanentFailure(self._given_up(roll))
            report(f"waiting: {roll.sentence}{refusal}")
            if fit and waited_s >= self._patience.rejoin_wait_s:
                self._quarantine.relent()  # a backend that flaps is better than no cluster at all
            await asyncio.sleep(SURVEY_PAUSE_S if waited_s < LATER_S else LATER_PAUSE_S)

    def _given_up(self, roll: RollCall) -> ConfigError | ProcessError:
        if roll.hopeless:
            return ConfigError(f"{roll.sentence}; mend APP_RPC_BACKENDS or that backend")
        needed = roll.needed(self._patience.min_backends)
        return ProcessError(f"waited {self._patience.wait_s:g} s (APP_WAIT_S): {roll.sentence}; {needed} are needed")

    async def survey(self) -> None:
        """Ask everybody anew."""
        reports = await self._scout.survey(self.roster.listed)
        self.reports = tuple(self._probed(report) for report in reports if self._is_wanted(report))

    async def newcomers(self, known: Collection[Endpoint]) -> tuple[BackendReport, ...]:
        """Ask those who are not in use; return who may be used now."""
        reports = await self._scout.survey_others(self.roster.listed, known)
        others = tuple(self._probed(report) for report in reports if self._is_wanted(report))
        newest = {str(each.endpoint): each for each in (*self.reports, *others)}  # in the order they first came
        self.reports = tuple(newest.values())
        return tuple(report for report in others if report.may_be_used)

    def follow(self, roster: Roster) -> None:
        """Take a new list; who is not on it is forgotten."""
        self.roster = roster
        listed = {str(each) for each in roster.listed}
        self.reports = tuple(each for each in self.reports if str(each.listed) in listed and self._is_wanted(each))

    def hear(self, backend: Endpoint, agent: AgentStatus) -> None:
        """Take note of what the agent of a backend in use has said."""
        self.reports = tuple(replace(each, agent=agent) if each.endpoint == backend else each for each in self.reports)

    def blame(self, backend: str, reason: str) -> None:
        """Put a backend that failed into quarantine; ``backend`` is its address."""
        if self._quarantine.confine(backend, reason.removeprefix(f"{backend} "), time.monotonic()):
            self.note(f"{backend} is {self._quarantine.of(backend)}")

    def _is_wanted(self, report: BackendReport) -> bool:
        return str(report.endpoint) not in self.roster.dismissed

    def _probed(self, report: BackendReport) -> BackendReport:
        backend = str(report.endpoint)
        if self._quarantine.probed(backend, time.monotonic(), answered=report.answers):
            self.note(f"{backend} has answered its probes and leaves quarantine")
        return replace(report, confinement=self._quarantine.of(backend))


def _refusal(fit: Fit, roll: RollCall) -> str:
    try:
        fit(roll)
    except PlanError as error:
        return f"; the model does not fit on who is left ({error})"
    return ""

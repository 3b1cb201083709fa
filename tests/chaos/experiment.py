"""One chaos run: clients that ask, faults that strike, and the account of it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.chaos import census
from tests.chaos.account import Account
from tests.chaos.cluster import Cluster
from tests.chaos.faults import Fault
from tests.chaos.figures import Figures, Strike
from tests.chaos.load import Answer, Load, Question, questions
from tests.chaos.near_ties import Parting, parting
from tests.chaos.strike import Striker
from tests.chaos.timeline import timeline

ANSWERS_PER_FAULT = 5
RECOVERY_S = 120.0  # a cluster that takes longer has not healed
QUIET_S = 10.0
CHECK_S = 0.1
SETTLED_S = 1.5  # an engine that stayed ready so long after a fault will not be fenced for it any more


@dataclass(frozen=True, slots=True)
class Trial:
    """What is to be done."""

    faults: Sequence[Fault]
    seed: int = 1
    clients: int = 8
    questions: Sequence[Question] = field(default_factory=questions)
    calm_s: float = 0.0  # between two faults; the pause before a restart grows while they follow each other closely
    tell: Callable[[str], None] = print


class Experiment:
    """A trial on a running cluster."""

    def __init__(self, cluster: Cluster, trial: Trial, stop: asyncio.Event) -> None:
        self._stop = stop
        self._cluster = cluster
        self._trial = trial
        self._load = Load(cluster.http, trial.seed, trial.questions)
        self._account = Account()
        self._struck: list[tuple[float, float]] = []  # by the wall clock and by the loop's

    async def run(self) -> Account:
        """Strike once per fault, each time when streams are running and the cluster was well."""
        load, account, began = self._load, self._account, time.monotonic()
        account.cold_start = timeline(await self._history(), 0.0)
        await load.learn()
        account.unsteady = await self._partings(await load.together(self._trial.clients))
        before = await self._fds()
        self._trial.tell(f"learnt {len(load.expected)} answers in {time.monotonic() - began:.0f} s")
        await self._under_load()
        account.answers = load.answers
        account.journal_entries = await self._journal_entries()
        account.fds = {name: (count, after) for (name, count), after in zip(before, await self._counts(), strict=True)}
        account.partings = await self._partings([each for each in load.answers if load.is_different(each)])
        account.wall_s = time.monotonic() - began
        return account

    async def _partings(self, different: Sequence[Answer]) -> list[Parting]:
        """Find out where each of these answers left the text that it should have."""
        return [await parting(self._cluster.http, each, self._load.expected[each.question]) for each in different]

    async def _under_load(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._trial.clients):
                tasks.create_task(self._load.client(number))
            try:
                await self._strikes()
            finally:
                self._load.stopping = True

    async def _strikes(self) -> None:
        """Strike until all is done, or until somebody asks to stop; a cluster that does not heal ends it, too."""
        for number, fault in enumerate(self._trial.faults, 1):
            if self._stop.is_set():
                return
            strike = await self._strike_or_stuck(fault)
            self._trial.tell(f"{number:4} {describe(fault)}: {strike}" if strike else self._account.stuck)
            if strike is None:
                return
            self._account.strikes.append(strike)

    async def _strike_or_stuck(self, fault: Fault) -> Strike | None:
        """Strike; None when that failed, for the account of what was done so far must not be lost with it."""
        try:
            return await self._strike(fault)
        except TimeoutError:
            self._account.stuck = f"{describe(fault)}: not healed in {RECOVERY_S:g} s"
        except Exception as error:
            self._account.stuck = f"{describe(fault)}: {error!r}"
        return None

    async def _strike(self, fault: Fault) -> Strike:
        load = self._load
        await load.more_answers(ANSWERS_PER_FAULT)
        await asyncio.sleep(fault.pause_s + self._trial.calm_s)
        await self._cluster.wait_ready(RECOVERY_S)
        while not load.streams():
            await load.next_sign()
        running = load.streams()
        seen = await self._newest()
        striker = Striker(self._cluster, load, self._note)
        self._struck.clear()
        async with asyncio.timeout(RECOVERY_S):
            await striker.strike(fault)
            await self._settled(seen, running)
        struck_at, by_loop = self._struck[0]
        history = [entry for entry in await self._history() if entry["number"] > seen]
        recovery = timeline(history, struck_at, waits_s(running, by_loop))
        return Strike(fault, recovery, () if recovery else tuple(pauses_s(running, by_loop)))

    def _note(self) -> None:
        self._struck.append((time.time(), asyncio.get_running_loop().time()))

    async def _settled(self, seen: int, running: Sequence[Answer]) -> None:
        """Wait until the cluster has been ready for a while, and every stream that was cut goes on or has ended."""
        quiet_since, number = time.monotonic(), seen
        while True:
            await asyncio.sleep(CHECK_S)
            newest = await self._newest()
            if newest != number or not await self._cluster.is_ready():
                number, quiet_since = newest, time.monotonic()
            is_cut = number != seen
            if time.monotonic() - quiet_since > SETTLED_S and not (is_cut and self._waiting(running)):
                return

    def _waiting(self, running: Sequence[Answer]) -> list[Answer]:
        """Return the streams that were running at the strike and have not said anything since."""
        struck_at = self._struck[0][1]
        open_ones = [answer for answer in running if not answer.is_over and not answer.has_left]
        return [answer for answer in open_ones if not waits_s([answer], struck_at)]

    async def _history(self) -> list[dict[str, Any]]:
        history: list[dict[str, Any]] = (await self._cluster.snapshot())["history"]
        return history

    async def _newest(self) -> int:
        return int((await self._history())[-1]["number"])

    async def _journal_entries(self) -> int:
        """Return what the journal still holds once everybody has gone."""
        end = time.monotonic() + QUIET_S
        while True:
            entries = int((await self._cluster.snapshot())["journal"]["entries"])
            if not entries or time.monotonic() > end:
                return entries
            await asyncio.sleep(CHECK_S)

    async def _fds(self) -> list[tuple[str, int]]:
        names = [program.name for program in self._cluster.programs()]
        return list(zip(names, await self._counts(), strict=True))

    async def _counts(self) -> list[int]:
        """Count the file descriptors of each program, twice: what is only passing is not counted."""
        first = [census.count_fds(program.pid) for program in self._cluster.programs()]
        await asyncio.sleep(1.0)
        again = [census.count_fds(program.pid) for program in self._cluster.programs()]
        return [min(pair) for pair in zip(first, again, strict=True)]


def waits_s(running: Sequence[Answer], struck_at: float) -> list[float]:
    """Return how long each stream that was cut waited for its next token."""
    waits = []
    for answer in running:
        cuts = [moment for moment in answer.resumed_at if moment >= struck_at]
        later = [moment for moment in answer.token_at if cuts and moment >= cuts[0]]
        waits += [later[0] - struck_at] if later else []
    return waits


def pauses_s(running: Sequence[Answer], struck_at: float) -> list[float]:
    """Return the longest pause of each stream that was not cut, from the strike on."""
    moments = [[struck_at, *(at for at in answer.token_at if at >= struck_at)] for answer in running]
    return [max(later - earlier for earlier, later in pairwise(each)) for each in moments if len(each) > 1]


def describe(fault: Fault) -> str:
    """Say what a fault is."""
    also = " + ".join(one.kind for one in fault.also)
    return f"{fault.kind}: {also}" if also else f"{fault.kind} ({fault.backend})"


async def experiment(cluster: Cluster, trial: Trial, stop: asyncio.Event | None = None) -> Figures:
    """Do what a trial says, until the end or until asked to stop, and return the figures of it."""
    return (await Experiment(cluster, trial, stop or asyncio.Event()).run()).figures()

"""Backends are gathered over real sockets: waited for, put into quarantine, gone on without."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import PlanError
from rpc_wrapper.gateway.backends import Scout
from rpc_wrapper.gateway.muster import Muster
from rpc_wrapper.gateway.roll_call import Patience, RollCall
from rpc_wrapper.gateway.roster import Roster
from rpc_wrapper.supervisor import PermanentFailure
from tests.fakes.rpc_server import Options, running
from tests.gateway.serve import until

NOBODY = Endpoint("127.0.0.1", 1)


class Stage:
    """A muster and what it said."""

    def __init__(self, muster: Muster) -> None:
        self.muster = muster
        self.reports: list[str] = []
        self.notes: list[str] = []
        muster.note = self.notes.append

    async def gather(self, *last_used: Endpoint, fit: object = None) -> RollCall:
        async with asyncio.timeout(20):
            return await self.muster.gather(set(map(str, last_used)), self.reports.append, fit)  # type: ignore[arg-type]


@asynccontextmanager
async def muster(*listed: Endpoint, patience: Patience | None = None, probes: int = 3) -> AsyncIterator[Stage]:
    async with httpx.AsyncClient(trust_env=False) as http:
        yield Stage(Muster(listed, Scout(http), patience or Patience(0.3, 0.3), probes))


def fits(roll: RollCall) -> None:
    """Everything does."""


def never_fits(roll: RollCall) -> None:
    if len(roll.usable) < 2:
        raise PlanError("short by 5 MiB")


def needs_one(roll: RollCall) -> None:
    """Refuse an empty cluster."""
    if not roll.usable:
        never_fits(roll)


async def test_a_first_start_gives_up_on_who_does_not_come():
    async with running(Options()) as (worker, _), muster(worker, NOBODY) as stage:
        with pytest.raises(PermanentFailure, match=r"waited 0.3 s \(APP_WAIT_S\): 1 of 2 backends can be used.*2 are"):
            await stage.gather()
        assert "waiting: 1 of 2 backends can be used: 127.0.0.1:1 is down" in stage.reports[0]


async def test_a_first_start_does_not_wait_for_another_program():
    async with running(Options(garbage=True)) as (other, _), muster(other, patience=Patience(60, 60)) as stage:
        with pytest.raises(PermanentFailure, match="mend APP_RPC_BACKENDS"):
            await stage.gather()


async def test_a_recovery_goes_on_without_who_was_lost_after_a_moment():
    async with running(Options()) as (worker, _), muster(worker, NOBODY) as stage:
        roll = await stage.gather(worker, NOBODY, fit=fits)
        assert [report.endpoint for report in roll.usable] == [worker]
        assert stage.reports, "it waited, and said for whom"


async def test_a_recovery_does_not_wait_for_who_was_gone_before():
    async with running(Options()) as (worker, _), muster(worker, NOBODY, patience=Patience(60, 60)) as stage:
        roll = await stage.gather(worker, fit=fits)
        assert [report.endpoint for report in roll.usable] == [worker]


async def test_a_recovery_waits_for_who_is_needed_and_says_so():
    async with running(Options()) as (one, _), muster(one, NOBODY) as stage, asyncio.TaskGroup() as group:
        gathering = group.create_task(stage.gather(one, NOBODY, fit=never_fits))
        await until(lambda: any("does not fit on who is left (short by 5 MiB)" in line for line in stage.reports))
        async with running(Options()) as (two, _):
            stage.muster.follow(Roster((one, two)))
            roll = await gathering
        assert len(roll.usable) == 2


async def test_who_failed_is_used_again_after_its_probes():
    async with running(Options()) as (worker, fake), muster(worker) as stage:
        await stage.muster.survey()
        stage.muster.blame(str(worker), f"{worker} was lost: it closed")
        asked = fake.accepted
        roll = await stage.gather(worker, fit=fits)
        assert [report.endpoint for report in roll.usable] == [worker]
        assert fake.accepted - asked == 3
        assert stage.notes == [
            f"{worker} is in quarantine (0 of 3 probes answered): was lost: it closed",
            f"{worker} has answered its probes and leaves quarantine",
        ]
        assert f"{worker} is in quarantine (2 of 3 probes answered)" in stage.reports[-1]


async def test_who_failed_often_is_not_put_off_while_nothing_runs_without_it():
    patience = Patience(rejoin_wait_s=0.2)
    async with running(Options()) as (worker, fake), muster(worker, patience=patience, probes=1) as stage:
        for _ in range(5):
            stage.muster.blame(str(worker), "was lost")
            asked = fake.accepted
            await stage.gather(worker, fit=needs_one)
        assert "in quarantine (0 of 16 probes answered)" in stage.notes[-2]
        assert fake.accepted - asked < 8


async def test_newcomers_are_those_who_are_not_in_use_and_may_be():
    async with running(Options()) as (known, _), running(Options()) as (late, _), muster(known, late, NOBODY) as stage:
        await stage.muster.survey()
        stage.muster.blame(str(late), "silence")
        found = [await stage.muster.newcomers({known}) for _ in range(3)]
        assert [len(each) for each in found] == [0, 0, 1]
        assert [report.endpoint for report in stage.muster.reports] == [known, late, NOBODY]


async def test_who_is_removed_is_forgotten():
    async with running(Options()) as (one, _), running(Options()) as (two, _), muster(one, two) as stage:
        await stage.muster.survey()
        stage.muster.follow(Roster((two,)))
        assert [report.endpoint for report in stage.muster.reports] == [two]
        await stage.muster.survey()
        assert [report.endpoint for report in stage.muster.reports] == [two]

"""The list of backends changes only when the cluster can live with it; the probes are real."""

from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConfigError, PlanError
from rpc_wrapper.gateway.backends import Scout
from rpc_wrapper.gateway.membership import Membership
from rpc_wrapper.gateway.muster import Muster
from rpc_wrapper.gateway.roll_call import Patience
from tests.fakes.rpc_server import Options, running

NOBODY = Endpoint("127.0.0.1", 1)


class Stage:
    """A membership over real probes; of the engine it has only what it asks of it."""

    def __init__(self, http: httpx.AsyncClient, *listed: Endpoint) -> None:
        scout = Scout(http)
        self.muster = Muster(listed, scout, Patience(), 3)
        self.restarts: list[str] = []
        self.refusal: PlanError | None = None
        self.server = SimpleNamespace(muster=self.muster, scout=scout, start=None, check_fit=self._check_fit)
        runner = SimpleNamespace(restart=self.restarts.append, note=self.restarts.append)
        self.membership = Membership(cast(Any, self.server), cast(Any, runner), has_own_devices=False)

    @property
    def reports(self) -> Any:
        return self.muster.reports

    async def begin(self) -> "Stage":
        await self.muster.survey()
        self.server.reports = self.muster.reports
        self.server.start = SimpleNamespace(backends=self.muster.reports)
        return self

    def _check_fit(self, backends: Any) -> None:
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture
async def http():
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def test_one_more_is_added_and_planned_over(http):
    async with running(Options()) as (one, _), running(Options()) as (two, _):
        stage = await Stage(http, one).begin()
        change = await stage.membership.add(two)
        assert (change.status, change.restarts, change.listed) == ("added", True, (str(one), str(two)))
        assert (await stage.membership.add(two)).status == "unchanged"
    assert stage.restarts == [f"{two} was added"]


@pytest.mark.parametrize("options", [Options(silent=True), Options(garbage=True)])
async def test_who_does_not_answer_well_is_not_added(http, options):
    async with running(Options()) as (one, _), running(options) as (bad, _):
        stage = await Stage(http, one).begin()
        with pytest.raises(ConfigError, match=f"{bad} is not added: {bad} is "):
            await stage.membership.add(bad)
        assert stage.muster.roster.listed == (one,)
    assert stage.restarts == []


async def test_a_second_name_for_a_backend_is_not_another_backend(http):
    async with running(Options()) as (one, _):
        stage = await Stage(http, one).begin()
        with pytest.raises(ConfigError, match=f"it is the same backend as {one}"):
            await stage.membership.add(Endpoint("localhost", one.port))


async def test_one_is_removed_once(http):
    async with running(Options()) as (one, _), running(Options()) as (two, _):
        stage = await Stage(http, one, two).begin()
        assert (await stage.membership.remove(one)).listed == (str(two),)
        assert (await stage.membership.remove(one)).status == "unchanged"
    assert stage.restarts == [f"{one} was removed"]


async def test_who_is_not_used_is_removed_without_a_restart(http):
    async with running(Options()) as (one, _):
        stage = await Stage(http, one, NOBODY).begin()
        stage.server.start = SimpleNamespace(backends=stage.muster.reports[:1])
        assert not (await stage.membership.remove(NOBODY)).restarts
    assert stage.restarts == [f"{NOBODY} was removed; nothing was placed on it"]


async def test_the_last_the_needed_and_the_unknown_stay(http):
    async with running(Options()) as (one, _), running(Options()) as (two, _):
        stage = await Stage(http, one, two).begin()
        stage.refusal = PlanError("the model does not fit: 5 MiB short")
        with pytest.raises(ConfigError, match=f"{one} is needed: the model does not fit: 5 MiB short"):
            await stage.membership.remove(one)
        stage.refusal = None
        with pytest.raises(ConfigError, match=f"{NOBODY} is not among the backends"):
            await stage.membership.remove(NOBODY)
        await stage.membership.remove(one)
        stage.server.reports = stage.muster.reports
        with pytest.raises(ConfigError, match=f"{two} is the last backend"):
            await stage.membership.remove(two)

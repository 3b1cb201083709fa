"""Add and remove backends while the server runs: checked first, then planned anew; requests in flight see a pause."""

import asyncio

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConfigError, PlanError
from rpc_wrapper.gateway.llama_server import LlamaServer
from rpc_wrapper.gateway.placement import number_devices
from rpc_wrapper.gateway.upstream import Change
from rpc_wrapper.supervisor import Runner


class Membership:
    """The only one who changes the list; one change at a time."""

    def __init__(self, server: LlamaServer, runner: Runner, *, has_own_devices: bool) -> None:
        self._server = server
        self._runner = runner
        self._has_own_devices = has_own_devices
        self._changing = asyncio.Lock()
        self._removed: set[str] = set()

    async def add(self, backend: Endpoint) -> Change:
        """Take one more backend in, once it has answered a probe; raise ConfigError when it cannot be used."""
        muster = self._server.muster
        async with self._changing:
            if muster.roster.has(backend):
                return self._changed("unchanged")
            roster = muster.roster.with_added(backend)
            reports = await self._server.scout.survey([backend])
            excuses = [report.excuse for report in reports if not report.is_usable]
            if excuses:
                raise ConfigError(f"{backend} is not added: {'; '.join(excuses)}")
            known = {str(report.endpoint): report.listed for report in muster.reports}
            twins = [known[str(report.endpoint)] for report in reports if str(report.endpoint) in known]
            if twins:
                raise ConfigError(f"{backend} is not added: it is the same backend as {twins[0]}")
            number_devices([*(each for each in muster.reports if each.may_be_used), *reports], [])
            muster.follow(roster)
            self._removed.discard(str(backend))
            self._runner.restart(f"{backend} was added")
            return self._changed("added", restarts=True)

    async def remove(self, backend: Endpoint) -> Change:
        """Use a backend no more; raise ConfigError when it is unknown, the last, or needed for the model to fit."""
        muster = self._server.muster
        async with self._changing:
            if str(backend) in self._removed and not muster.roster.has(backend):
                return self._changed("unchanged")
            roster = muster.roster.without(backend, [report.endpoint for report in muster.reports])
            self._check_rest(backend)
            start = self._server.start
            is_used = start is not None and any(_is(backend, each.listed, each.endpoint) for each in start.backends)
            muster.follow(roster)
            self._removed.add(str(backend))
            if is_used or start is None:
                self._runner.restart(f"{backend} was removed")
            else:
                self._runner.note(f"{backend} was removed; nothing was placed on it")
            return self._changed("removed", restarts=is_used)

    def _changed(self, status: str, *, restarts: bool = False) -> Change:
        return Change(status, restarts, tuple(map(str, self._server.muster.roster.listed)))

    def _check_rest(self, backend: Endpoint) -> None:
        rest = [each for each in self._server.reports if not _is(backend, each.listed, each.endpoint)]
        if not rest and not self._has_own_devices:
            raise ConfigError(f"{backend} is the last backend, without it nothing computes: add another one first")
        if self._server.start is None:
            return
        try:
            self._server.check_fit(rest)
        except PlanError as error:
            raise ConfigError(f"{backend} is needed: {error}") from error


def _is(backend: Endpoint, *names: Endpoint) -> bool:
    return str(backend) in map(str, names)

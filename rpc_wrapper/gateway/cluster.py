"""The cluster as the gateway sees it: llama-server's runner and the backends under it, behind one Protocol."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rpc_wrapper import __version__
from rpc_wrapper.devices import Endpoint
from rpc_wrapper.engine.client import EngineClient
from rpc_wrapper.errors import NotReady, UpstreamError
from rpc_wrapper.gateway.comparison import compare_strategies
from rpc_wrapper.gateway.llama_server import LlamaServer
from rpc_wrapper.gateway.membership import Membership
from rpc_wrapper.gateway.nodes import Nodes
from rpc_wrapper.gateway.start import ClusterConfig, Start, start_of
from rpc_wrapper.gateway.upstream import Change, Readiness, Target
from rpc_wrapper.supervisor import Fault, FaultKind, Runner, State

EXIT_NOTICE_S = 0.5  # an exit is heard of within milliseconds, and tells more than the connections it has cut
READY_PROOF_S = 10.0  # how long /readyz may wait for its token


class Cluster:
    """One group: a llama-server and the backends it uses (:class:`rpc_wrapper.gateway.upstream.Upstream`)."""

    def __init__(self, config: ClusterConfig, server: LlamaServer, runner: Runner) -> None:
        self._config = config
        self._server = server
        self._runner = runner
        self._nodes = Nodes(server.scout)
        self._membership = Membership(server, runner, has_own_devices=bool(config.local_devices))
        self._proving = asyncio.Lock()
        self._checking = asyncio.Lock()
        self._sections: dict[str, Callable[[], Any]] = {}

    @property
    def ever_ready(self) -> bool:
        """Tell whether it has been ready since it was started."""
        return self._runner.snapshot().ever_ready

    async def ensure_ready(self, timeout_s: float) -> Target:
        """Return the ready llama-server, waiting at most `timeout_s`; raise NotReady."""
        start = start_of(await self._runner.ensure_ready(timeout_s))
        return _target_of(start)

    def note_token(self) -> None:
        """Take note that a client's request just produced a token."""
        self._server.pulse.beat()

    async def lost(self, target: Target) -> None:
        """Find out whether the engine died with a connection it cut; return once that is known and acted upon."""
        async with self._checking:
            start, is_ready = self._server.start, self._runner.snapshot().state is State.READY
            if start is None or not is_ready or _target_of(start) != target:
                return
            async with EngineClient(start.base_url, start.api_key) as client:
                if await client.is_healthy():
                    return
            try:
                async with asyncio.timeout(EXIT_NOTICE_S):
                    await self._left_ready()
            except TimeoutError:
                text = "llama-server has cut a connection and takes no other"
                self._runner.report_fault(Fault(FaultKind.CONNECTION, text, detected_after_s=EXIT_NOTICE_S))
                await self._left_ready()

    async def _left_ready(self) -> None:
        while self._runner.snapshot().state is State.READY:
            await self._runner.changed()

    async def restart(self, reason: str) -> None:
        """Ask for an orderly restart: the backends are surveyed and the plan is made anew."""
        self._runner.restart(reason)

    async def add_backend(self, backend: Endpoint) -> Change:
        """Take one more backend in; raise ConfigError when it cannot be used."""
        return await self._membership.add(backend)

    async def remove_backend(self, backend: Endpoint) -> Change:
        """Use a backend no more; raise ConfigError when it cannot be spared."""
        return await self._membership.remove(backend)

    async def check_ready(self) -> Readiness:
        """Tell whether a token came out in the last `canary_s`; ask for one if not, once for all who ask."""
        try:
            start = start_of(await self._runner.ensure_ready(0))
        except NotReady as error:
            return Readiness(False, str(error))
        async with self._proving:
            if self._server.pulse.age_s < self._config.canary_s:
                return Readiness(True)
            return await self._prove(start)

    async def _prove(self, start: Start) -> Readiness:
        async with EngineClient(start.base_url, start.api_key) as client:
            try:
                await client.canary(READY_PROOF_S)
            except UpstreamError as error:
                return Readiness(False, f"the engine runs, but no token came out: {error}")
        self._server.pulse.beat()
        return Readiness(True)

    def progress(self) -> dict[str, Any]:
        """Return what a client sent away may know."""
        snapshot = self._runner.snapshot()
        missing = [str(report.endpoint) for report in self._server.reports if not report.may_be_used]
        return {
            "state": snapshot.state.value,
            "reason": snapshot.reason,
            "since": snapshot.since,
            "progress": snapshot.progress,
            "missing": missing if snapshot.state is not State.READY else [],
        }

    async def observe(self) -> None:
        """Ask every machine how it is."""
        linked = {endpoint for endpoint, (_, meter) in self._server.links.snapshots().items() if meter.connections}
        await self._nodes.observe(self._server.reports, frozenset(linked), self._runner.snapshot().pid)

    async def changed(self) -> None:
        """Wait for the engine to change its state or to come further."""
        await self._runner.changed()

    async def strategies(self) -> dict[str, Any]:
        """Return what every strategy would make of the loaded model; raise NotReady before the first plan."""
        start = self._server.start
        if start is None:
            raise NotReady("there is no plan yet to compare with: the backends have not answered", 5.0)
        return await asyncio.to_thread(compare_strategies, self._config, start.considered)

    def attach(self, name: str, section: Callable[[], Any]) -> None:
        """Show one more part of the server in `/cluster`, asked anew each time."""
        self._sections[name] = section

    def snapshot(self) -> dict[str, Any]:
        """Return what `/cluster` prints."""
        snapshot = self._runner.snapshot()
        start = self._server.start
        used = {backend.endpoint for backend in start.backends} if start else set()
        return {
            **snapshot.to_json(),
            "version": __version__,
            "engine": {"version": self._config.engine.version, "protocol": self._config.engine.protocol},
            "model": self._config.profile.name,
            "ctx_size_per_slot": self._config.workload.ctx_size,
            "slots": self._config.workload.n_parallel,
            "listed": [str(endpoint) for endpoint in self._server.muster.roster.listed],
            "backends": [{**report.to_json(), "used": report.endpoint in used} for report in self._server.reports],
            "plan": start.plan.to_json() if start else None,
            "loaded": self._loaded(start) if start else None,
            "load": self._server.loading.to_json() if self._server.loading else None,
            "nodes": self._nodes.to_json(),
            "links": self._server.links.to_json(),
            **{name: section() for name, section in self._sections.items()},
        }

    def _loaded(self, start: Start) -> dict[str, Any]:
        """Return what each device really holds, under the names users know."""
        known = {label: name for name, label in start.engine_labels().items()}
        ours = {device.name: device.label for device in start.devices}
        return {
            ours[known[label]] if label in known else label: asdict(held) for label, held in start.log.buffers.items()
        }


def _target_of(start: Start) -> Target:
    return Target(start.base_url, start.api_key)

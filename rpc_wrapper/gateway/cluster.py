"""The cluster as the gateway sees it: llama-server's runner and the backends under it, behind one Protocol."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rpc_wrapper import __version__
from rpc_wrapper.engine.client import EngineClient
from rpc_wrapper.errors import NotReady, UpstreamError
from rpc_wrapper.gateway.llama_server import LlamaServer
from rpc_wrapper.gateway.start import ClusterConfig, Start, start_of
from rpc_wrapper.gateway.upstream import Readiness, Target
from rpc_wrapper.supervisor import Runner, State

READY_PROOF_S = 10.0  # how long /readyz may wait for its token


class Cluster:
    """One group: a llama-server and the backends it uses (:class:`rpc_wrapper.gateway.upstream.Upstream`)."""

    def __init__(self, config: ClusterConfig, server: LlamaServer, runner: Runner) -> None:
        self._config = config
        self._server = server
        self._runner = runner
        self._proving = asyncio.Lock()
        self._sections: dict[str, Callable[[], Any]] = {}

    @property
    def ever_ready(self) -> bool:
        """Tell whether it has been ready since it was started."""
        return self._runner.snapshot().ever_ready

    async def ensure_ready(self, timeout_s: float) -> Target:
        """Return the ready llama-server, waiting at most `timeout_s`; raise NotReady."""
        start = start_of(await self._runner.ensure_ready(timeout_s))
        return Target(start.base_url, start.api_key)

    def note_token(self) -> None:
        """Take note that a client's request just produced a token."""
        self._server.pulse.beat()

    async def restart(self, reason: str) -> None:
        """Ask for an orderly restart."""
        self._runner.restart(reason)

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
        missing = [str(report.endpoint) for report in self._server.reports if not report.is_usable]
        return {
            "state": snapshot.state.value,
            "reason": snapshot.reason,
            "since": snapshot.since,
            "progress": snapshot.progress,
            "missing": missing if snapshot.state is not State.READY else [],
        }

    def attach(self, name: str, section: Callable[[], Any]) -> None:
        """Show one more part of the server in `/cluster`, asked anew each time."""
        self._sections[name] = section

    def snapshot(self) -> dict[str, Any]:
        """Return what `/cluster` prints."""
        snapshot = self._runner.snapshot()
        start = self._server.start
        return {
            **snapshot.to_json(),
            "version": __version__,
            "engine": {"version": self._config.engine.version, "protocol": self._config.engine.protocol},
            "model": self._config.profile.name,
            "ctx_size_per_slot": self._config.workload.ctx_size,
            "slots": self._config.workload.n_parallel,
            "listed": [str(endpoint) for endpoint in self._config.endpoints],
            "backends": [report.to_json() for report in self._server.reports],
            "plan": start.plan.to_json() if start else None,
            "loaded": self._loaded(start) if start else None,
            "links": [
                {"endpoint": str(endpoint), "address": str(address), **meter.to_json()}
                for endpoint, (address, meter) in self._server.links.snapshots().items()
            ],
            **{name: section() for name, section in self._sections.items()},
        }

    def _loaded(self, start: Start) -> dict[str, Any]:
        """Return what each device really holds, under the names users know."""
        known = {label: name for name, label in start.engine_labels().items()}
        ours = {device.name: device.label for device in start.devices}
        return {
            ours[known[label]] if label in known else label: asdict(held) for label, held in start.log.buffers.items()
        }

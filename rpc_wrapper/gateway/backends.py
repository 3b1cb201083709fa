"""Find out which backends are there: resolve each endpoint's name, probe it, ask its agent."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import httpx

from rpc_wrapper.devices import MIB, Device, Endpoint
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.gateway.quarantine import Confinement
from rpc_wrapper.link.tls import explain
from rpc_wrapper.rpc import ProbeResult, ProbeState, Tls, UnresolvableHost, probe, resolve
from rpc_wrapper.rpc.agent import AgentStatus

PROBE_TIMEOUT_S = 3.0
AGENT_TIMEOUT_S = 1.0  # no answer by then means there is no agent
STOPPED = "stopped"  # psutil's word for a process in state T
MAX_PORT = 65535  # a backend on the last port has no port after it for an agent


@dataclass(frozen=True, slots=True)
class BackendReport:
    """What is known of one backend: the endpoint as listed, as resolved, its probe, its agent, its quarantine."""

    listed: Endpoint
    endpoint: Endpoint
    probe: ProbeResult
    agent: AgentStatus | None = None
    confinement: Confinement | None = None

    @property
    def is_stopped(self) -> bool:
        """Tell whether its worker is stopped by a signal (T in ps): its gate still answers, but nobody computes."""
        return self.agent is not None and self.agent.process == STOPPED

    @property
    def state(self) -> ProbeState:
        """Return what its probe found; busy when it is another's, whose gate answers probes all the same."""
        return ProbeState.BUSY if self._other else self.probe.state

    @property
    def detail(self) -> str:
        """Say more of its state."""
        return f"it serves another llama-server at {self._other}" if self._other else self.probe.detail

    @property
    def answers(self) -> bool:
        """Tell whether it is well; it may be another's."""
        return self.probe.state is ProbeState.OK and not self.is_stopped

    @property
    def is_usable(self) -> bool:
        """Tell whether llama-server could be started over it now."""
        return self.answers and self._other is None

    @property
    def _other(self) -> str | None:
        """Return the address of the llama-server that it serves, unless that is ours."""
        if self.agent is None or self.probe.state is not ProbeState.OK:
            return None
        return self.agent.holder if self.agent.is_held_by_another else None

    @property
    def may_be_used(self) -> bool:
        """Tell whether the planner may count on it: it answers, and is not in quarantine."""
        return self.is_usable and self.confinement is None

    @property
    def is_flapping(self) -> bool:
        """Tell whether it has failed several times in a row."""
        return self.confinement is not None and self.confinement.is_flapping

    @property
    def excuse(self) -> str:
        """Say why it may not be used."""
        if self.state is not ProbeState.OK:
            return f"{self.endpoint} is {self.state.value}: {self.detail}"
        if self.is_stopped:
            return f"{self.endpoint} is stopped: its worker was sent SIGSTOP and has to be continued or restarted"
        return f"{self.endpoint} is {self.confinement}"

    @property
    def is_hopeless(self) -> bool:
        """Tell whether waiting cannot help: something else listens there, or another version."""
        return self.probe.state in (ProbeState.NOT_RPC, ProbeState.WRONG_VERSION)

    @property
    def budget_bytes(self) -> int | None:
        """Return the budget in force: the one given with the endpoint, else the agent's."""
        if self.endpoint.budget_bytes is not None:
            return self.endpoint.budget_bytes
        return self.agent.budget_bytes if self.agent else None

    def devices(self, first_index: int) -> list[Device]:
        """Return its devices, named ``RPC<first_index>`` and on; a budget is spent on them in order."""
        left = self.budget_bytes
        found = []
        for index, memory in enumerate(self.probe.devices):
            budget = memory.free_bytes if left is None else min(memory.free_bytes, left)
            left = None if left is None else left - budget
            found.append(
                Device(
                    name=f"RPC{first_index + index}",
                    budget_bytes=budget,
                    endpoint=self.endpoint,
                    index=index,
                    kind=self._kind(index),
                    free_bytes=memory.free_bytes,
                    total_bytes=memory.total_bytes,
                )
            )
        return found

    def _kind(self, index: int) -> str:
        names = self.agent.device_names if self.agent else ()
        name = names[index] if index < len(names) else "CPU"
        return name.rstrip("0123456789").lower()

    def to_json(self) -> dict[str, object]:
        """Return the row `/cluster` shows."""
        version = self.probe.version
        return {
            "endpoint": str(self.listed),
            "address": str(self.endpoint),
            "state": self.state.value,
            "detail": self.detail,
            "protocol": str(version) if version else None,
            "rtt_ms": None if self.probe.rtt_s is None else round(self.probe.rtt_s * 1000, 3),
            "budget_mib": None if self.budget_bytes is None else self.budget_bytes // MIB,
            "agent": self.agent.state if self.agent else None,
            "process": self.agent.process if self.agent else None,
            "quarantine": asdict(self.confinement) if self.confinement else None,
            "devices": [{"free_bytes": d.free_bytes, "total_bytes": d.total_bytes} for d in self.probe.devices],
        }


class Scout:
    """Ask backends who they are: over TLS, with our certificate, when `tls` is given."""

    def __init__(
        self, http: httpx.AsyncClient, tls: ssl.SSLContext | None = None, *, probe_timeout_s: float = PROBE_TIMEOUT_S
    ) -> None:
        self._http = http
        self._tls = tls
        self._probe_timeout_s = probe_timeout_s

    async def survey(self, listed: Sequence[Endpoint]) -> tuple[BackendReport, ...]:
        """Resolve, probe and ask every listed endpoint at once; one report per address, in the listed order."""
        reports = await asyncio.gather(*(self._survey_one(endpoint) for endpoint in listed))
        return tuple(report for group in reports for report in group)

    async def survey_others(self, listed: Sequence[Endpoint], known: Collection[Endpoint]) -> tuple[BackendReport, ...]:
        """Survey the addresses of the list that are not known yet; the known are left in peace."""
        resolved = await asyncio.gather(*(self._addresses(endpoint) for endpoint in listed))
        others = [(name, at) for name, found in zip(listed, resolved, strict=True) for at in found if at not in known]
        return tuple(await asyncio.gather(*(self._report(name, address) for name, address in others)))

    async def ask_agent(self, listed: Endpoint, address: Endpoint) -> AgentStatus | None:
        """Ask a backend's agent for its state and budget; None when there is none or it makes no sense."""
        if address.agent > MAX_PORT:
            return None
        url = httpx.URL(scheme="https" if self._tls else "http", host=address.host, port=address.agent, path="/status")
        # Over TLS the certificate must carry the name that was listed, not the address it resolved to.
        extensions = {"sni_hostname": listed.host} if self._tls else {}
        try:
            async with asyncio.timeout(AGENT_TIMEOUT_S):
                return AgentStatus.from_json((await self._http.get(url, extensions=extensions)).json())
        except (httpx.HTTPError, TimeoutError, ValueError):  # nobody, or somebody who is no agent
            return None

    async def _survey_one(self, listed: Endpoint) -> list[BackendReport]:
        try:
            addresses = await self._resolve(listed)
        except UnresolvableHost as error:
            return [BackendReport(listed, listed, ProbeResult(listed, ProbeState.UNRESOLVABLE, detail=str(error)))]
        return list(await asyncio.gather(*(self._report(listed, address) for address in addresses)))

    async def _report(self, listed: Endpoint, address: Endpoint) -> BackendReport:
        tls = Tls(self._tls, listed.host, explain) if self._tls else None
        result, agent = await asyncio.gather(
            probe(address, timeout_s=self._probe_timeout_s, tls=tls), self.ask_agent(listed, address)
        )
        return BackendReport(listed, address, result, agent)

    async def _addresses(self, listed: Endpoint) -> tuple[Endpoint, ...]:
        try:
            return await self._resolve(listed)
        except UnresolvableHost:
            return ()

    async def _resolve(self, listed: Endpoint) -> tuple[Endpoint, ...]:
        """Return one endpoint per address of a name, in a stable order; raise UnresolvableHost.

        The engine would use the first IPv4 address alone (gethostbyname in ggml-rpc.cpp), so names are resolved here.
        A host with addresses of both families is one backend, not two: IPv4 is preferred.
        """
        addresses = await resolve(listed, timeout_s=self._probe_timeout_s)
        chosen = [address for address in addresses if ":" not in address] or addresses
        return tuple(listed.at(address) for address in sorted(chosen))


@asynccontextmanager
async def open_scout(
    tls: ssl.SSLContext | None = None, *, probe_timeout_s: float = PROBE_TIMEOUT_S
) -> AsyncIterator[Scout]:
    """Lend a scout with an HTTP client of its own."""
    async with httpx.AsyncClient(timeout=AGENT_TIMEOUT_S, trust_env=False, verify=tls or False) as http:
        yield Scout(http, tls, probe_timeout_s=probe_timeout_s)


async def survey_usable(listed: Sequence[Endpoint], tls: ssl.SSLContext | None = None) -> tuple[BackendReport, ...]:
    """Survey the listed endpoints once; raise ConfigError naming the first that is not well."""
    async with open_scout(tls) as scout:
        reports = await scout.survey(listed)
    for report in reports:
        if not report.answers:
            raise ConfigError(f"backend {report.listed} is {report.probe.state.value}: {report.probe.detail}")
    return reports

"""Find out which backends are there: resolve each endpoint's name, probe it, ask its agent."""

import asyncio
import socket
import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from rpc_wrapper.devices import MIB, Device, Endpoint
from rpc_wrapper.link.tls import explain
from rpc_wrapper.rpc import ProbeResult, ProbeState, Tls, probe

PROBE_TIMEOUT_S = 3.0
AGENT_TIMEOUT_S = 1.0  # no answer by then means there is no agent


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """What an agent told of its backend: its state, its worker's pid, its budget, its devices in order."""

    state: str
    budget_bytes: int | None
    device_names: tuple[str, ...] = ()
    pid: int | None = None
    last_exit: str | None = None


@dataclass(frozen=True, slots=True)
class BackendReport:
    """What is known of one backend: the endpoint as listed, as resolved, its probe and its agent."""

    listed: Endpoint
    endpoint: Endpoint
    probe: ProbeResult
    agent: AgentStatus | None = None

    @property
    def is_usable(self) -> bool:
        """Tell whether llama-server can be started over it now."""
        return self.probe.state is ProbeState.OK

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
            "state": self.probe.state.value,
            "detail": self.probe.detail,
            "protocol": str(version) if version else None,
            "rtt_ms": None if self.probe.rtt_s is None else round(self.probe.rtt_s * 1000, 3),
            "budget_mib": None if self.budget_bytes is None else self.budget_bytes // MIB,
            "agent": self.agent.state if self.agent else None,
            "devices": [{"free_bytes": d.free_bytes, "total_bytes": d.total_bytes} for d in self.probe.devices],
        }


class Scout:
    """Ask backends who they are: over TLS, with our certificate, when `tls` is given."""

    def __init__(self, http: httpx.AsyncClient, tls: ssl.SSLContext | None = None) -> None:
        self._http = http
        self._tls = tls

    async def survey(self, listed: Sequence[Endpoint]) -> tuple[BackendReport, ...]:
        """Resolve, probe and ask every listed endpoint at once; one report per address, in the listed order."""
        reports = await asyncio.gather(*(self._survey_one(endpoint) for endpoint in listed))
        return tuple(report for group in reports for report in group)

    async def newcomers(self, listed: Sequence[Endpoint], known: Collection[Endpoint]) -> tuple[BackendReport, ...]:
        """Return the usable backends at addresses of the list that are not known yet; the known are left in peace."""
        resolved = await asyncio.gather(*(resolve(endpoint) for endpoint in listed))
        fresh = [(name, at) for name, found in zip(listed, resolved, strict=True) for at in found if at not in known]
        reports = await asyncio.gather(*(self._report(name, address) for name, address in fresh))
        return tuple(report for report in reports if report.is_usable)

    async def ask_agent(self, listed: Endpoint, address: Endpoint) -> AgentStatus | None:
        """Ask a backend's agent for its state and budget; None when there is none or it makes no sense."""
        url = httpx.URL(scheme="https" if self._tls else "http", host=address.host, port=address.agent, path="/status")
        # Over TLS the certificate must carry the name that was listed, not the address it resolved to.
        extensions = {"sni_hostname": listed.host} if self._tls else {}
        try:
            reply = await self._http.get(url, timeout=AGENT_TIMEOUT_S, extensions=extensions)
            return agent_status(reply.json())
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
            return None

    async def _survey_one(self, listed: Endpoint) -> list[BackendReport]:
        addresses = await resolve(listed)
        if not addresses:
            detail = f"the name {listed.host!r} does not resolve"
            return [BackendReport(listed, listed, ProbeResult(listed, ProbeState.UNRESOLVABLE, detail=detail))]
        return list(await asyncio.gather(*(self._report(listed, address) for address in addresses)))

    async def _report(self, listed: Endpoint, address: Endpoint) -> BackendReport:
        tls = Tls(self._tls, listed.host, explain) if self._tls else None
        result, agent = await asyncio.gather(
            probe(address, timeout_s=PROBE_TIMEOUT_S, tls=tls), self.ask_agent(listed, address)
        )
        return BackendReport(listed, address, result, agent)


def agent_status(body: Any) -> AgentStatus:
    """Read an agent's answer; raise KeyError, TypeError, ValueError or AttributeError when it is none."""
    budget = body.get("budget_bytes")
    return AgentStatus(
        state=str(body["state"]),
        budget_bytes=int(budget) if budget else None,
        device_names=tuple(str(name) for name in body.get("devices", ())),
        pid=body.get("pid"),
        last_exit=body.get("last_exit"),
    )


async def resolve(endpoint: Endpoint) -> tuple[Endpoint, ...]:
    """Return one endpoint per address of a name, in a stable order; empty when it does not resolve.

    The engine would use the first IPv4 address alone (gethostbyname in ggml-rpc.cpp), so names are resolved here. A
    host with addresses of both families is one backend, not two: IPv4 is preferred.
    """
    loop = asyncio.get_running_loop()
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            found = await loop.getaddrinfo(endpoint.host, endpoint.port, family=family, type=socket.SOCK_STREAM)
        except OSError:
            continue
        return tuple(endpoint.at(address) for address in sorted({str(info[4][0]) for info in found}))
    return ()

"""Make backend reports for tests."""

from dataclasses import replace

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.gateway.backends import BackendReport
from rpc_wrapper.gateway.quarantine import Confinement
from rpc_wrapper.rpc import DeviceMemory, ProbeResult, ProbeState
from rpc_wrapper.rpc.agent import AgentStatus

GIB = 1 << 30


def report(name: str, state: ProbeState = ProbeState.OK, *, devices: int = 1, free_bytes: int = GIB) -> BackendReport:
    """Return what a survey finds of ``name:1``."""
    endpoint = Endpoint(name, 1)
    memory = (DeviceMemory(free_bytes, free_bytes),) * (devices if state is ProbeState.OK else 0)
    return BackendReport(endpoint, endpoint, ProbeResult(endpoint, state, devices=memory, detail="as told"))


def confined(name: str, strikes: int = 1) -> BackendReport:
    """Return one in quarantine."""
    return replace(report(name), confinement=Confinement("was lost", 3, strikes=strikes))


def stopped(name: str) -> BackendReport:
    """Return one whose worker is stopped behind its gate."""
    return replace(report(name), agent=AgentStatus("ready", pid=7, process="stopped"))


def taken(name: str) -> BackendReport:
    """Return one that serves another llama-server."""
    return replace(report(name), agent=AgentStatus("ready", pid=7, holder="10.0.0.9", is_held_by_another=True))

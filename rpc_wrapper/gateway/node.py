"""How one machine of the cluster is: decided from what its agent, its link and its last probe say. No I/O."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rpc_wrapper.gateway.backends import BackendReport
from rpc_wrapper.rpc.agent import AgentStatus
from rpc_wrapper.supervisor import State
from rpc_wrapper.usage import GPU, Usage

SERVER = "server"  # the name of the machine the gateway runs on
_COMING = frozenset({State.PREPARING, State.STARTING})


class NodeState(StrEnum):
    """How a machine is, as people ask it."""

    UP = "up"
    STARTING = "starting"
    SILENT = "silent"  # its agent does not answer, yet the engine is connected to its worker
    FROZEN = "frozen"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Node:
    """One machine at one moment; ``cpu_percent`` is of one core, over the time since the observation before."""

    name: str
    state: NodeState
    detail: str = ""
    usage: Usage | None = None
    cpu_percent: float | None = None
    restarts: int | None = None
    gpus: tuple[GPU, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the row `/cluster` shows."""
        return {
            "name": self.name,
            "state": self.state.value,
            "detail": self.detail,
            "cpu_s": self.usage.cpu_s if self.usage else None,
            "cpu_percent": self.cpu_percent,
            "rss_bytes": self.usage.rss_bytes if self.usage else None,
            "restarts": self.restarts,
            "gpus": [gpu.to_json() for gpu in self.gpus],
        }


def judge(report: BackendReport, agent: AgentStatus | None, *, is_linked: bool) -> tuple[NodeState, str]:
    """Return a backend's state and why; `agent` is what its agent says now, `is_linked` whether data may flow."""
    if agent is not None:
        return _as_its_agent_says(agent)
    if report.agent is not None:
        if is_linked:
            return NodeState.SILENT, "its agent does not answer; its worker is connected"
        return NodeState.DOWN, "its agent does not answer"
    if is_linked:
        return NodeState.UP, "connected; it has no agent"
    return (NodeState.UP if report.is_usable else NodeState.DOWN), report.probe.detail


def _as_its_agent_says(agent: AgentStatus) -> tuple[NodeState, str]:
    if agent.state == State.READY:
        is_frozen = agent.process == "stopped"
        return (NodeState.FROZEN, "its worker is stopped (SIGSTOP)") if is_frozen else (NodeState.UP, "")
    reason = agent.reason or agent.last_exit or ""
    return (NodeState.STARTING if agent.state in _COMING else NodeState.DOWN), reason or f"its worker is {agent.state}"


def usage_of(agent: AgentStatus | None) -> Usage | None:
    """Return what a backend's worker uses, when its agent says it."""
    if agent is None or agent.cpu_s is None or agent.rss_bytes is None:
        return None
    return Usage(agent.cpu_s, agent.rss_bytes)


def cpu_percent(before: Usage | None, now: Usage | None, elapsed_s: float) -> float | None:
    """Return the load between two usages, 100 being one core; None when a process was replaced in between."""
    if before is None or now is None or elapsed_s <= 0 or now.cpu_s < before.cpu_s:
        return None
    return round(100 * (now.cpu_s - before.cpu_s) / elapsed_s, 1)

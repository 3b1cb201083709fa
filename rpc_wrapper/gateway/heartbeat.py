"""What a backend's agent says of its worker, one answer after another, and what follows from it. Pure.

An agent says more than a link can: which process the worker is, and whether it is stopped. But it answers over another
connection, so its silence says nothing: as long as the link carries data, the backend is well.
"""

from dataclasses import dataclass

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.gateway.backends import STOPPED
from rpc_wrapper.rpc.agent import AgentStatus
from rpc_wrapper.supervisor import Fault, FaultKind


@dataclass(frozen=True, slots=True)
class Beat:
    """What one answer leads to: a fault, or a note for the history, or nothing."""

    fault: Fault | None = None
    note: str = ""


class Heartbeat:
    """One backend in use; ``pid`` is the worker that llama-server was started over, ``stopped_s`` bounds its stops."""

    def __init__(self, backend: Endpoint, pid: int | None, stopped_s: float, now: float) -> None:
        self._backend = str(backend)
        self._pid = pid
        self._stopped_s = stopped_s
        self._heard_at = now
        self._is_gone = False
        self._stopped_at: float | None = None
        self._moved_bytes = 0

    def hear(self, agent: AgentStatus | None, moved_bytes: int, now: float) -> Beat:
        """Take an answer, None for none; ``moved_bytes`` is what the link has carried from the backend so far."""
        moved, self._moved_bytes = moved_bytes != self._moved_bytes, moved_bytes
        if agent is None:
            return self._gone()
        silent_s, self._heard_at = now - self._heard_at, now
        if self._pid is not None and agent.pid != self._pid:
            return Beat(self._ended(agent, silent_s))
        if agent.process == STOPPED and not moved:
            return self._stopped(now)
        note = self._back()
        if self._stopped_at is not None:
            self._stopped_at = None
            note = f"the worker of {self._backend} goes on"
        return Beat(note=note)

    def _gone(self) -> Beat:
        if self._is_gone or self._pid is None:  # there may never have been one
            return Beat()
        self._is_gone = True
        return Beat(note=f"the agent of {self._backend} does not answer; its link alone tells now whether it is well")

    def _back(self) -> str:
        was_gone, self._is_gone = self._is_gone, False
        return f"the agent of {self._backend} answers again" if was_gone else ""

    def _ended(self, agent: AgentStatus, silent_s: float) -> Fault:
        text = f"{self._backend} has lost its worker: {agent.last_exit or 'it was restarted'}"
        return Fault(FaultKind.EXIT, text, self._backend, detected_after_s=silent_s)

    def _stopped(self, now: float) -> Beat:
        if self._stopped_at is None:
            self._stopped_at = now
            text = f"the worker of {self._backend} is stopped (SIGSTOP); it has {self._stopped_s:g} s (APP_STOPPED_S)"
            return Beat(note=text)
        waited_s = now - self._stopped_at
        if waited_s < self._stopped_s:
            return Beat()
        text = (
            f"{self._backend} has sent nothing for {waited_s:.1f} s because its worker is stopped (SIGSTOP),"
            f" {self._stopped_s:g} s is the most (APP_STOPPED_S)"
        )
        return Beat(Fault(FaultKind.HEARTBEAT, text, self._backend, "", waited_s, self._stopped_s))

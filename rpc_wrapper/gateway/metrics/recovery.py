"""Read from the life cycle's history how often the engine was lost, to what, and how long it took to be back. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric

from rpc_wrapper.supervisor import FaultKind, State

_RECOVERY_S = (0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600, 1800)
_STATES, _READY = frozenset(State), State.READY
_EVENTS = {"Exited": "engine_exit", "RestartRequested": "requested", "StopRequested": "stopped"}
CAUSES = tuple(dict.fromkeys((*FaultKind, *_EVENTS.values(), "other")))


class Recoveries:
    """Counted from a history that is shown again and again; what was counted is not counted twice."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._restarts = Counter(
            "rpcw_restarts", "Losses of readiness, by what caused them.", ["cause"], registry=self._registry
        )
        self._recovery_s = Histogram(
            "rpcw_recovery_seconds",
            "From the loss of readiness to the next token, by what caused it.",
            ["cause"],
            buckets=_RECOVERY_S,
            registry=self._registry,
        )
        for cause in CAUSES:  # there from the start, so that the first loss of a kind is an increase
            self._restarts.labels(cause)
        self._seen = -1
        self._was_ready = False
        self._lost: tuple[str, float] | None = None

    def read(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Count what is new in a history: occurrences as ``/cluster`` shows them, oldest first."""
        for occurrence in history:
            if occurrence["number"] > self._seen:
                self._seen = occurrence["number"]
                self._count(occurrence)

    def _count(self, occurrence: Mapping[str, Any]) -> None:
        kind, at = occurrence["kind"], occurrence["at"]
        if kind not in _STATES:  # a note, or a fault seen while it was down anyway
            return
        if kind == _READY:
            if self._lost is not None:
                cause, since = self._lost
                self._recovery_s.labels(cause).observe(max(0.0, at - since))
            self._was_ready, self._lost = True, None
        elif self._was_ready:
            self._was_ready = False
            cause = cause_of(occurrence)
            self._restarts.labels(cause).inc()
            self._lost = (cause, at)

    def families(self) -> Iterable[Metric]:
        """Return what was counted so far."""
        return self._registry.collect()


def cause_of(occurrence: Mapping[str, Any]) -> str:
    """Return one word of a bounded set for why readiness was lost: a kind of fault, or the event itself."""
    fault = occurrence.get("fault")
    return str(fault["kind"]) if fault else _EVENTS.get(occurrence["cause"], "other")

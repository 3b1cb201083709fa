"""Read from the life cycle's history how often the engine was lost, to what, and how long it took to be back. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric

from rpc_wrapper.supervisor import FaultKind, State

_DETECTION_S = (0.01, 0.05, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
_RECOVERY_S = (0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600, 1800)
_STATES, _READY = frozenset(State), State.READY
_EVENTS = {"RestartRequested": "requested", "StopRequested": "stopped"}
CAUSES = tuple(dict.fromkeys((*FaultKind, *_EVENTS.values(), "other")))
_PHASES = ("fence", "wait", "load", "first_token")


class Recoveries:
    """Counted from a history that is shown again and again; what was counted is not counted twice."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._restarts = Counter(
            "rpcw_restarts", "Losses of readiness, by what caused them.", ["cause"], registry=self._registry
        )
        self._detection_s = self._histogram(
            "rpcw_detection_seconds", "How long a fault went unnoticed, by its kind.", _DETECTION_S
        )
        self._recovery_s = self._histogram(
            "rpcw_recovery_seconds", "From a fault to the next token, by what caused it.", _RECOVERY_S
        )
        self._phase_s = Counter(
            "rpcw_recovery_phase_seconds", "What recoveries were spent on.", ["phase"], registry=self._registry
        )
        for cause in CAUSES:  # there from the start, so that the first loss of a kind is an increase
            self._restarts.labels(cause)
        self._seen = -1
        self._was_ready = False

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, ["cause"], buckets=buckets, registry=self._registry)

    def read(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Count what is new in a history: occurrences as ``/cluster`` shows them, oldest first."""
        for occurrence in history:
            if occurrence["number"] > self._seen:
                self._seen = occurrence["number"]
                self._count(occurrence)

    def _count(self, occurrence: Mapping[str, Any]) -> None:
        if occurrence["kind"] not in _STATES:  # a note, or a fault seen while it was down anyway
            return
        if self._was_ready and occurrence["kind"] != _READY:
            self._restarts.labels(cause_of(occurrence)).inc()
            fault = occurrence.get("fault") or {}
            if fault.get("detected_after_s") is not None:
                self._detection_s.labels(fault["kind"]).observe(fault["detected_after_s"])
        self._was_ready = occurrence["kind"] == _READY
        recovery = occurrence.get("recovery")
        if recovery is not None:
            self._recovery_s.labels(recovery["cause"]).observe(recovery["total_s"])
            for phase in _PHASES:
                self._phase_s.labels(phase).inc(recovery[f"{phase}_s"] or 0.0)

    def families(self) -> Iterable[Metric]:
        """Return what was counted so far."""
        return self._registry.collect()


def cause_of(occurrence: Mapping[str, Any]) -> str:
    """Return one word of a bounded set for why readiness was lost: a kind of fault, or the event itself."""
    fault = occurrence.get("fault")
    return str(fault["kind"]) if fault else _EVENTS.get(occurrence["cause"], "other")

"""The honest end of a request that cannot go on: who failed, doing what, how much the client has, what to do. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from rpc_wrapper.gateway.errors import Problem, Refusal
from rpc_wrapper.gateway.journal.entry import Entry

RETRY_S = 10.0


class Phase(StrEnum):
    """What was being done for a request when it ended."""

    LOAD = "load"
    PREFILL = "prefill"
    DECODE = "decode"


class Ended(Refusal):
    """A request that was accepted ends without its whole answer."""


def ended(entry: Entry, phase: Phase, reason: str, cluster: Mapping[str, Any]) -> Ended:
    """Return the end of a request; ``cluster`` is its state as clients may know it."""
    missing = list(cluster.get("missing") or ())
    n_tokens = entry.delivered.n_tokens
    advice = _advice(phase, n_tokens, missing)
    details = {
        "backend": missing[0] if missing else None,
        "phase": phase.value,
        "tokens_delivered": n_tokens,
        "attempts": entry.attempts,
        "advice": advice,
        "cluster": dict(cluster),
    }
    lost = f"The engine was lost {entry.attempts} times during {phase.value}"
    message = f"{lost} and this request cannot go on: {reason.rstrip('.')}."
    status = 503 if phase is Phase.LOAD else 502
    retry_after_s = RETRY_S if phase is Phase.LOAD else None
    kind = "unavailable_error" if phase is Phase.LOAD else "server_error"
    return Ended(Problem(status, "engine_lost", message, kind, "engine", retry_after_s, details=details))


def _advice(phase: Phase, n_tokens: int, missing: list[str]) -> str:
    if phase is Phase.LOAD:
        who = f"bring {', '.join(missing)} back" if missing else "see GET /cluster for what the engine waits for"
        return f"{who}, then send the request again"
    if n_tokens:
        return f"send the request again, or go on from the {n_tokens} tokens you have by putting them behind the prompt"
    return "send the request again"

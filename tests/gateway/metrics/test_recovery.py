"""Losses of readiness are counted once each, and timed until the next token."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.gateway.metrics.recovery import CAUSES, Recoveries, cause_of


def fault(kind: str, detected_after_s: float | None = None) -> dict[str, Any]:
    return {"kind": kind, "detected_after_s": detected_after_s}


def recovery(cause: str, total_s: float) -> dict[str, Any]:
    return {"cause": cause, "total_s": total_s, "fence_s": 0.5, "wait_s": 0.25, "load_s": 0.125, "first_token_s": None}


def history(*occurrences: dict[str, Any]) -> list[dict[str, Any]]:
    """Number occurrences as the supervisor does."""
    return [{"number": number, "at": 0.0, "cause": "", **each} for number, each in enumerate(occurrences)]


HISTORY = history(
    {"kind": "starting", "cause": "Prepared"},
    {"kind": "backoff", "cause": "Exited", "fault": fault("exit")},
    {"kind": "ready", "cause": "BecameReady"},
    {"kind": "note", "cause": "Noted"},
    {"kind": "fencing", "cause": "FaultFound", "fault": fault("silence", 2.5)},
    {"kind": "fault", "cause": "FaultFound", "fault": fault("connection", 9.0)},
    {"kind": "starting", "cause": "Prepared"},
    {"kind": "ready", "cause": "BecameReady", "recovery": recovery("silence", 1.5)},
    {"kind": "backoff", "cause": "Exited", "fault": fault("exit", 0.0)},
    {"kind": "ready", "cause": "BecameReady", "recovery": recovery("exit", 1.0)},
    {"kind": "fencing", "cause": "RestartRequested"},
)


def samples(recoveries: Recoveries) -> dict[tuple[str, str], float]:
    found = [sample for family in recoveries.families() for sample in family.samples]
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for sample in found
        if sample.name.endswith(("_total", "_sum", "_count")) and sample.value
    }


def test_each_loss_has_its_cause_and_its_times():
    recoveries = Recoveries()
    recoveries.read(HISTORY)
    assert samples(recoveries) == {
        ("rpcw_restarts_total", "silence"): 1,
        ("rpcw_restarts_total", "exit"): 1,
        ("rpcw_restarts_total", "requested"): 1,
        ("rpcw_detection_seconds_sum", "silence"): 2.5,
        ("rpcw_detection_seconds_count", "silence"): 1,
        ("rpcw_detection_seconds_count", "exit"): 1,
        ("rpcw_recovery_seconds_sum", "silence"): 1.5,
        ("rpcw_recovery_seconds_count", "silence"): 1,
        ("rpcw_recovery_seconds_sum", "exit"): 1.0,
        ("rpcw_recovery_seconds_count", "exit"): 1,
        ("rpcw_recovery_phase_seconds_total", "fence"): 1.0,
        ("rpcw_recovery_phase_seconds_total", "wait"): 0.5,
        ("rpcw_recovery_phase_seconds_total", "load"): 0.25,
    }


def test_every_cause_is_there_before_its_first_loss():
    restarts = next(family for family in Recoveries().families() if family.name == "rpcw_restarts")
    zeros = {sample.labels["cause"]: sample.value for sample in restarts.samples if sample.name.endswith("_total")}
    assert zeros == dict.fromkeys(CAUSES, 0.0)
    assert all(cause_of(each) in CAUSES for each in HISTORY)


@given(st.lists(st.integers(0, len(HISTORY)), max_size=6))
def test_it_does_not_matter_when_it_is_read(ends):
    once, often = Recoveries(), Recoveries()
    once.read(HISTORY)
    for end in sorted(ends):
        often.read(HISTORY[:end])
    often.read(HISTORY)
    assert samples(often) == samples(once)

"""Losses of readiness are counted once each, and timed until the next token."""

from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.gateway.metrics.recovery import CAUSES, Recoveries, cause_of


def occurrence(number, at, kind, cause="", fault=None):
    return {"number": number, "at": at, "kind": kind, "cause": cause, "fault": {"kind": fault} if fault else None}


HISTORY = [
    occurrence(0, 1.0, "starting", "Prepared"),
    occurrence(1, 2.0, "backoff", "Exited"),
    occurrence(2, 3.0, "ready", "BecameReady"),
    occurrence(3, 9.0, "note", "Noted"),
    occurrence(4, 10.0, "fencing", "FaultFound", "connection"),
    occurrence(5, 10.5, "fault", "FaultFound", "silence"),
    occurrence(6, 11.0, "starting", "Prepared"),
    occurrence(7, 12.5, "ready", "BecameReady"),
    occurrence(8, 20.0, "backoff", "Exited"),
    occurrence(9, 21.0, "ready", "BecameReady"),
    occurrence(10, 30.0, "fencing", "RestartRequested"),
]


def samples(recoveries):
    found = [sample for family in recoveries.families() for sample in family.samples]
    return {(s.name, s.labels["cause"]): s.value for s in found if s.name.endswith(("_total", "_sum")) and s.value}


def test_each_loss_has_its_cause_and_its_time():
    recoveries = Recoveries()
    recoveries.read(HISTORY)
    assert samples(recoveries) == {
        ("rpcw_restarts_total", "connection"): 1,
        ("rpcw_restarts_total", "engine_exit"): 1,
        ("rpcw_restarts_total", "requested"): 1,
        ("rpcw_recovery_seconds_sum", "connection"): 2.5,
        ("rpcw_recovery_seconds_sum", "engine_exit"): 1.0,
    }


def test_every_cause_is_there_before_its_first_loss():
    (restarts, _) = Recoveries().families()
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

"""How a machine is, from what its agent, its link and its last probe say."""

import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.gateway.backends import BackendReport
from rpc_wrapper.gateway.node import NodeState, cpu_percent, judge, usage_of
from rpc_wrapper.rpc import ProbeResult, ProbeState
from rpc_wrapper.rpc.agent import AgentStatus
from rpc_wrapper.usage import Usage

PLACE = Endpoint("10.0.0.1", 50052)
READY = AgentStatus("ready", process="sleeping")


def report(agent: AgentStatus | None, probe: ProbeState = ProbeState.OK) -> BackendReport:
    return BackendReport(PLACE, PLACE, ProbeResult(PLACE, probe, detail="nobody listens there"), agent)


@pytest.mark.parametrize(
    ("was", "now", "is_linked", "state", "word"),
    [
        (READY, READY, True, NodeState.UP, ""),
        (READY, AgentStatus("ready", process="stopped"), True, NodeState.FROZEN, "stopped"),
        (READY, AgentStatus("starting"), False, NodeState.STARTING, "starting"),
        (READY, AgentStatus("backoff", reason="killed by SIGKILL"), False, NodeState.DOWN, "SIGKILL"),
        (READY, AgentStatus("stopped"), False, NodeState.DOWN, "stopped"),
        (READY, None, True, NodeState.SILENT, "does not answer"),
        (READY, None, False, NodeState.DOWN, "does not answer"),
        (None, None, True, NodeState.UP, "no agent"),
        (None, None, False, NodeState.UP, ""),
    ],
)
def test_a_machine_is_judged(was, now, is_linked, state, word):
    found, detail = judge(report(was), now, is_linked=is_linked)
    assert found is state
    assert word in detail


def test_without_an_agent_the_last_probe_counts():
    assert judge(report(None, ProbeState.DOWN), None, is_linked=False) == (NodeState.DOWN, "nobody listens there")


def test_load_is_what_was_used_over_the_time_it_took():
    assert cpu_percent(Usage(10.0, 1), Usage(13.0, 1), 2.0) == 150.0
    assert cpu_percent(None, Usage(13.0, 1), 2.0) is None
    assert cpu_percent(Usage(10.0, 1), None, 2.0) is None
    assert cpu_percent(Usage(10.0, 1), Usage(1.0, 1), 2.0) is None, "another process has its place"
    assert cpu_percent(Usage(10.0, 1), Usage(10.0, 1), 0.0) is None


def test_an_agent_tells_what_its_worker_uses():
    assert usage_of(AgentStatus("ready", cpu_s=1.5, rss_bytes=99)) == Usage(1.5, 99)
    assert usage_of(AgentStatus("ready")) is None
    assert usage_of(None) is None

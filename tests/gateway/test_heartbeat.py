"""What an agent's answers lead to."""

import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.gateway.heartbeat import Beat, Heartbeat
from rpc_wrapper.rpc.agent import AgentStatus
from rpc_wrapper.supervisor import FaultKind

BACKEND = Endpoint("b", 1)
WELL = AgentStatus("ready", pid=7, process="sleeping")
STOPPED = AgentStatus("ready", pid=7, process="stopped")


def heartbeat(pid: int | None = 7) -> Heartbeat:
    return Heartbeat(BACKEND, pid, 10.0, 0.0)


def test_all_well_is_no_news():
    beats = heartbeat()
    assert [beats.hear(WELL, moved, moved * 2.0) for moved in range(5)] == [Beat()] * 5


def test_another_worker_is_a_fault_with_the_time_since_the_last_answer():
    beats = heartbeat()
    beats.hear(WELL, 0, 2.0)
    fault = beats.hear(AgentStatus("ready", pid=8, last_exit="killed by SIGKILL"), 0, 4.5).fault
    assert fault is not None
    assert (fault.kind, fault.backend, fault.detected_after_s) == (FaultKind.EXIT, "b:1", 2.5)
    assert fault.text == "b:1 has lost its worker: killed by SIGKILL"


def test_an_agent_that_is_gone_is_noted_once_and_evicts_nobody():
    beats = heartbeat()
    heard = [beats.hear(None, 0, now * 2.0) for now in range(1, 100)]
    assert "does not answer" in heard[0].note
    assert heard[1:] == [Beat()] * 98
    assert beats.hear(WELL, 0, 300.0).note == "the agent of b:1 answers again"


def test_a_backend_without_an_agent_is_no_news():
    beats = heartbeat(pid=None)
    assert beats.hear(None, 0, 2.0) == Beat()
    assert beats.hear(WELL, 0, 4.0) == Beat()  # it was not known before: nothing to compare with


def test_a_stopped_worker_is_noted_and_is_a_fault_when_it_lasts():
    beats = heartbeat()
    beats = heartbeat()
    beats.hear(WELL, 5, 1.0)
    assert "is stopped (SIGSTOP); it has 10 s" in beats.hear(STOPPED, 5, 2.0).note
    assert [beats.hear(STOPPED, 5, now) for now in (4.0, 8.0, 11.9)] == [Beat()] * 3
    fault = beats.hear(STOPPED, 5, 12.0).fault
    assert fault is not None
    assert (fault.kind, fault.detected_after_s, fault.deadline_s) == (FaultKind.HEARTBEAT, 10.0, 10.0)


def test_a_short_stop_is_forgotten():
    beats = heartbeat()
    beats.hear(WELL, 5, 0.5)
    beats.hear(STOPPED, 5, 1.0)
    assert beats.hear(WELL, 5, 6.0).note == "the worker of b:1 goes on"
    beats.hear(STOPPED, 5, 8.0)
    assert beats.hear(STOPPED, 5, 17.0) == Beat()
    assert beats.hear(STOPPED, 5, 18.0).fault is not None


@pytest.mark.parametrize("agent", [STOPPED, None])
def test_data_that_flows_proves_more_than_the_agent(agent):
    beats = heartbeat()
    assert not any(beats.hear(agent, moved, moved * 2.0).fault for moved in range(100))

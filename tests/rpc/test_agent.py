import pytest

from rpc_wrapper.rpc.agent import AgentStatus
from rpc_wrapper.usage import GPU

A_GPU = {"index": 0, "name": "GTX 1080", "used_bytes": 1 << 30, "total_bytes": 8 << 30, "busy": 0.5}


def test_everything_an_agent_says_is_read():
    body = {
        "state": "ready",
        "pid": 42,
        "budget_bytes": 1 << 30,
        "uptime_s": 3.5,
        "devices": ["CUDA0", "CPU"],
        "process": "sleeping",
        "last_exit": "exit code 1",
        "gate": {"holder": "10.0.0.9", "held_s": 2.5},
        "held_by_another": True,
        "gpus": [A_GPU],
        "another": ["field"],
    }
    status = AgentStatus.from_json(body)
    assert status is not None
    assert (status.state, status.pid, status.budget_bytes, status.uptime_s) == ("ready", 42, 1 << 30, 3.5)
    assert (status.device_names, status.process) == (("CUDA0", "CPU"), "sleeping")
    assert (status.last_exit, status.holder) == ("exit code 1", "10.0.0.9")
    assert status.is_held_by_another
    assert status.gpus == (GPU(0, "GTX 1080", 1 << 30, 8 << 30, 0.5),)
    assert status.gpus[0].to_json() == A_GPU


def test_an_agent_may_leave_fields_out():
    assert AgentStatus.from_json({"state": "backoff", "pid": None}) == AgentStatus("backoff")


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "running",
        {},
        {"state": 1},
        {"state": "running", "pid": "42"},
        {"state": "running", "pid": True},
        {"state": "running", "budget_bytes": -1},
        {"state": "running", "devices": "CPU"},
        {"state": "running", "devices": 3},
        {"state": "running", "devices": [1]},
        {"state": "running", "last_exit": 1},
        {"state": "running", "gate": {"holder": 1}},
        {"state": "running", "held_by_another": "no"},
        {"state": "running", "gpus": "one"},
        {"state": "running", "gpus": [{"name": "GTX 1080"}]},
        {"state": "running", "gpus": [A_GPU | {"busy": "very"}]},
        {"state": "running", "gpus": [A_GPU | {"used_bytes": -1}]},
    ],
)
def test_what_no_agent_writes_is_no_agent(body):
    assert AgentStatus.from_json(body) is None

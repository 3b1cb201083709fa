import json
from dataclasses import replace

from rich.console import Console

from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.rpc.agent import AgentStatus
from rpc_wrapper.rpc.commands import PINNED
from rpc_wrapper.rpc.report import ReportLine, details, to_json, to_table
from rpc_wrapper.rpc.result import DeviceMemory, ProbeResult, ProbeState

FREE = ReportLine(
    ProbeResult(
        Endpoint("backend-cuda", 50052),
        ProbeState.OK,
        PINNED,
        (DeviceMemory(8000 * MIB, 8192 * MIB), DeviceMemory(900 * MIB, 1024 * MIB)),
        0.00125,
        "it is free to serve",
    ),
    AgentStatus("running", 42, 1024 * MIB, 3.5),
)
DOWN = ReportLine(ProbeResult(Endpoint("::1", 50052), ProbeState.DOWN, detail="the connection was refused"))


def rendered(*lines: ReportLine) -> list[list[str]]:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(to_table(lines))
    return [row.split() for row in capture.get().splitlines()]


def test_the_table_has_a_row_per_endpoint_with_memory_in_mib():
    _, free, second_device, down, _ = rendered(FREE, DOWN)
    assert free == ["backend-cuda:50052", "ok", "7.0.0", "2", "8000", "8192", "1024", "1.25"]
    assert second_device == ["900", "1024"]
    assert down == ["[::1]:50052", "down", "-", "-", "-", "-", "-", "-"]


def test_in_80_columns_nothing_but_a_state_is_broken():
    line = ReportLine(ProbeResult(Endpoint("backend-cuda.lan", 50052), ProbeState.NOT_RPC, PINNED, rtt_s=0.1))
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(to_table([FREE, line]))
    for whole in ("backend-cuda.lan:50052", "protocol", "7.0.0", "budget", "8192", "100.00"):
        assert whole in capture.get()


def test_json_holds_the_same_with_units_in_its_keys():
    free, down = json.loads(json.dumps(to_json([FREE, DOWN])))
    assert free == {
        "endpoint": "backend-cuda:50052",
        "address": "backend-cuda:50052",
        "state": "ok",
        "protocol": "7.0.0",
        "devices": [
            {"free_bytes": 8000 * MIB, "total_bytes": 8192 * MIB},
            {"free_bytes": 900 * MIB, "total_bytes": 1024 * MIB},
        ],
        "rtt_ms": 1.25,
        "detail": "it is free to serve",
        "agent": {"state": "running", "pid": 42, "budget_bytes": 1024 * MIB, "uptime_s": 3.5},
    }
    assert (down["protocol"], down["devices"], down["rtt_ms"], down["agent"]) == (None, [], None, None)


def test_only_endpoints_that_are_not_free_need_a_sentence():
    assert details([FREE, DOWN]) == ["[::1]:50052: the connection was refused"]


def test_a_backend_in_use_is_busy_although_its_gate_answers():
    line = replace(FREE, agent=AgentStatus("ready", holder="10.0.0.9"))
    assert details([line]) == ["backend-cuda:50052: it serves the llama-server at 10.0.0.9"]
    (shown,) = to_json([line])
    assert (shown["state"], shown["detail"]) == ("busy", "it serves the llama-server at 10.0.0.9")
    assert rendered(line)[1][1] == "busy"
    down = replace(line, result=DOWN.result)
    assert (down.state, down.detail) == (ProbeState.DOWN, "the connection was refused")


def test_one_of_several_addresses_is_shown_with_the_name_it_was_listed_under():
    line = ReportLine(
        ProbeResult(Endpoint("10.0.0.2", 50052), ProbeState.DOWN, detail="refused"), listed=Endpoint("backend", 50052)
    )
    assert details([line]) == ["backend:50052 at 10.0.0.2: refused"]
    (shown,) = to_json([line])
    assert (shown["endpoint"], shown["address"]) == ("backend:50052", "10.0.0.2:50052")

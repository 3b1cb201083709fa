"""A snapshot of the cluster, as metrics."""

from typing import Any

from rpc_wrapper.gateway.metrics.state import cluster_families
from rpc_wrapper.metrics.exposition import render

A, B = "10.0.0.1:50052", "10.0.0.2:50052"
PART = {"weights_bytes": 100, "kv_bytes": 20, "compute_bytes": 3}
LINK = {
    "endpoint": A,
    "bytes_to_backend": 1000,
    "bytes_from_backend": 50,
    "frames_to_backend": 10,
    "frames_from_backend": 4,
    "commands": {"GET_TENSOR": {"count": 4, "size_bytes": 48, "waited_s": 0.5}},
    "stages": 4,
    "stage_waited_s": 0.75,
    "weights_pushed_bytes": 900,
    "cacheable_pushed_bytes": 700,
    "weights_found_bytes": 0,
    "rtt_s": None,
    "connections": 1,
    "allocated_bytes": {"0": 120, "1": 5},
}
SNAPSHOT: dict[str, Any] = {
    "name": "llama-server",
    "state": "ready",
    "since": 5.0,
    "generation": 2,
    "slots": 4,
    "backends": [
        {"address": A, "state": "ok", "rtt_ms": 1.5, "budget_mib": 2, "quarantine": None, "used": True},
        {"address": B, "state": "ok", "rtt_ms": None, "budget_mib": None, "quarantine": {"needed": 3}, "used": False},
    ],
    "nodes": [{"name": "server", "state": "up"}, {"name": A, "state": "silent"}, {"name": B, "state": "down"}],
    "plan": {"assignments": [{"endpoint": A, **PART}, {"endpoint": A, **PART}, {"endpoint": None, **PART}]},
    "links": [LINK],
    "journal": {"entries": 1, "bytes": 2, "resumed_total": 3, "ended_total": 4},
}


def lines(snapshot: dict[str, Any]) -> list[str]:
    return render(cluster_families(snapshot)).decode().splitlines()


def test_the_whole_cluster_is_there():
    shown = lines(SNAPSHOT)
    for line in (
        'rpcw_group_state{group="llama-server",state="ready"} 1.0',
        'rpcw_group_state{group="llama-server",state="backoff"} 0.0',
        'rpcw_group_ready{group="llama-server"} 1.0',
        'rpcw_engine_starts_total{group="llama-server"} 2.0',
        f'rpcw_backend_up{{backend="{A}"}} 1.0',
        f'rpcw_backend_up{{backend="{B}"}} 0.0',
        f'rpcw_backend_state{{backend="{A}",state="ok"}} 1.0',
        f'rpcw_backend_quarantined{{backend="{A}"}} 0.0',
        f'rpcw_backend_quarantined{{backend="{B}"}} 1.0',
        f'rpcw_backend_used{{backend="{B}"}} 0.0',
        f'rpcw_backend_probe_round_trip_seconds{{backend="{A}"}} 0.0015',
        f'rpcw_backend_memory_budget_bytes{{backend="{A}"}} 2.097152e+06',
        f'rpcw_backend_memory_predicted_bytes{{backend="{A}"}} 246.0',
        f'rpcw_backend_memory_used_bytes{{backend="{A}"}} 125.0',
        f'rpcw_link_bytes_total{{backend="{A}",direction="to"}} 1000.0',
        f'rpcw_link_frames_total{{backend="{A}",direction="from"}} 4.0',
        f'rpcw_link_command_wait_seconds_total{{backend="{A}",command="get_tensor"}} 0.5',
        f'rpcw_link_weights_missed_bytes_total{{backend="{A}"}} 700.0',
        f'rpcw_link_stage_wait_seconds_total{{backend="{A}"}} 0.75',
        "rpcw_resumes_total 3.0",
        "rpcw_requests_lost_total 4.0",
    ):
        assert line in shown
    assert not any(line.startswith("rpcw_link_round_trip_seconds") for line in shown)


def test_a_machine_nobody_has_looked_at_is_as_its_probe_found_it():
    down = {"address": B, "state": "down", "rtt_ms": None, "budget_mib": None}
    shown = lines({**SNAPSHOT, "nodes": [], "backends": [SNAPSHOT["backends"][0], down]})
    assert f'rpcw_backend_up{{backend="{A}"}} 1.0' in shown
    assert f'rpcw_backend_up{{backend="{B}"}} 0.0' in shown


def test_before_the_first_start_there_is_little_to_show():
    shown = lines({"name": "llama-server", "state": "preparing", "plan": None, "links": []})
    assert 'rpcw_group_ready{group="llama-server"} 0.0' in shown
    assert not any("backend" in line or "journal" in line for line in shown)

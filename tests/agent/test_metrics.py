"""What an agent exports of its worker and its gate."""

from dataclasses import replace

from rpc_wrapper.agent.metrics import Facts, agent_families
from rpc_wrapper.link.gate import GateSnapshot
from rpc_wrapper.link.guest import Refusal
from rpc_wrapper.link.meter import Meter
from rpc_wrapper.metrics.exposition import render
from rpc_wrapper.supervisor import Snapshot, State
from rpc_wrapper.usage import Usage

METER = Meter()
METER.moved(1000, 50, 1.0)
METER.computed(0.25, 1.0)
FACTS = Facts(
    worker=Snapshot("worker:50052", State.READY, 0.0, "", generation=3),
    gate=GateSnapshot("10.0.0.9", 4.0, 2, {Refusal.NOT_RPC: 7}, METER.snapshot(1.0, {0: 100, 1: 20})),
    budget_bytes=4096,
    cache_bytes=0,
    worker_usage=Usage(1.5, 2048),
)


def lines(facts: Facts) -> list[str]:
    return render(agent_families(facts)).decode().splitlines()


def test_a_backend_in_use():
    shown = lines(FACTS)
    for line in (
        "rpcw_worker_up 1.0",
        'rpcw_worker_state{state="ready"} 1.0',
        'rpcw_worker_state{state="backoff"} 0.0',
        "rpcw_worker_starts_total 3.0",
        "rpcw_memory_budget_bytes 4096.0",
        "rpcw_memory_allocated_bytes 120.0",
        "rpcw_cache_bytes 0.0",
        'rpcw_gate_refusals_total{reason="not_rpc"} 7.0',
        'rpcw_gate_refusals_total{reason="busy"} 0.0',
        "rpcw_gate_guests 2.0",
        "rpcw_gate_held 1.0",
        'rpcw_gate_bytes_total{direction="to"} 1000.0',
        'rpcw_gate_bytes_total{direction="from"} 50.0',
        "rpcw_gate_stage_seconds_total 0.25",
        'rpcw_process_cpu_seconds_total{process="worker"} 1.5',
    ):
        assert line in shown


def test_a_backend_whose_worker_is_gone():
    gate = replace(FACTS.gate, holder=None)
    worker = replace(FACTS.worker, state=State.BACKOFF)
    shown = lines(replace(FACTS, worker=worker, gate=gate, cache_bytes=None, worker_usage=None))
    assert "rpcw_worker_up 0.0" in shown
    assert "rpcw_gate_held 0.0" in shown
    assert not any(line.startswith(("rpcw_cache_bytes", "rpcw_process", "rpcw_gpu")) for line in shown)

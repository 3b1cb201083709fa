"""What an agent exports to Prometheus: its worker, its gate, its memory. Pure: facts in, families out."""

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import Metric

from rpc_wrapper.link.gate import GateSnapshot
from rpc_wrapper.link.guest import Refusal
from rpc_wrapper.metrics.exposition import Labels, counter, gauge
from rpc_wrapper.metrics.gpu import gpu_families
from rpc_wrapper.metrics.process import process_families
from rpc_wrapper.supervisor import Snapshot, State
from rpc_wrapper.usage import GPU, Usage

_NONE: Labels = {}


@dataclass(frozen=True, slots=True)
class Facts:
    """A backend at one moment; ``cache_bytes`` is None without a tensor cache."""

    worker: Snapshot
    gate: GateSnapshot
    budget_bytes: int
    cache_bytes: int | None = None
    agent_usage: Usage | None = None
    worker_usage: Usage | None = None
    gpus: tuple[GPU, ...] = ()


def agent_families(facts: Facts) -> list[Metric]:
    """Return everything an agent knows."""
    return [
        *_worker(facts.worker),
        *_memory(facts),
        *_gate(facts.gate),
        *process_families({"agent": facts.agent_usage, "worker": facts.worker_usage}),
        *gpu_families(facts.gpus),
    ]


def _worker(worker: Snapshot) -> Iterable[Metric]:
    yield gauge("rpcw_worker_up", "Whether the worker answers.", [(_NONE, worker.state is State.READY)])
    states = [({"state": state.value}, worker.state is state) for state in State]
    yield gauge("rpcw_worker_state", "1 for the state that the worker is in.", states)
    starts = "Times that the worker was started."
    yield counter("rpcw_worker_starts_total", starts, [(_NONE, worker.generation)])


def _memory(facts: Facts) -> Iterable[Metric]:
    yield gauge("rpcw_memory_budget_bytes", "Memory that this backend lends (APP_MEM).", [(_NONE, facts.budget_bytes)])
    held = facts.gate.meter.allocated_bytes
    total = [(_NONE, sum(held.values()))]
    yield gauge("rpcw_memory_allocated_bytes", "Memory of it that is allocated now.", total)
    cached = "Tensors kept on disk between two starts (APP_CACHE_MIB is the most)."
    yield gauge("rpcw_cache_bytes", cached, [(_NONE, facts.cache_bytes)])


def _gate(gate: GateSnapshot) -> Iterable[Metric]:
    refusals = [({"reason": reason.name.lower()}, gate.refusals.get(reason, 0)) for reason in Refusal]
    yield counter("rpcw_gate_refusals_total", "Connections that were turned away.", refusals)
    yield gauge("rpcw_gate_guests", "Connections that have not been let in yet.", [(_NONE, gate.guests)])
    held = [(_NONE, gate.holder is not None)]
    yield gauge("rpcw_gate_held", "Whether an engine uses this backend.", held)
    meter = gate.meter
    both = [({"direction": "to"}, meter.bytes_to_backend), ({"direction": "from"}, meter.bytes_from_backend)]
    yield counter("rpcw_gate_bytes_total", "Bytes to and from the worker.", both)
    frames = [({"direction": "to"}, meter.frames_to_backend), ({"direction": "from"}, meter.frames_from_backend)]
    yield counter("rpcw_gate_frames_total", "Messages to and from the worker.", frames)
    yield counter("rpcw_gate_stages_total", "Graphs that the worker computed.", [(_NONE, meter.stages)])
    waited = "Time that the worker took for its graphs."
    yield counter("rpcw_gate_stage_seconds_total", waited, [(_NONE, meter.stage_waited_s)])

"""Prove from the engine's own load log that it did what the plan says."""

from collections.abc import Mapping

from rpc_wrapper.engine.loadlog import LoadLog
from rpc_wrapper.planner import Assignment, Plan

# Sizes are printed with two decimals of a MiB, and tensors are padded to their device's alignment.
TOLERANCE_BYTES = 1 << 16
TOLERANCE_SHARE = 1000


def differences(plan: Plan, labels: Mapping[str, str], log: LoadLog) -> list[str]:
    """Return one sentence per device that holds something else than planned; empty is the proof.

    `labels` say what the log calls each device of the plan.

    Compared are the bytes of weights, which no two runs of blocks share by chance, and the KV cache: its bytes as
    planned, or else (of a model whose caches are unknown to the planner) its share of the blocks. In tensor mode the
    log speaks of one device made of all, so there is nothing to compare.
    """
    if log.tensor_parallel:
        return []
    return [text for part in plan.offloaded for text in _difference(part, labels[part.device], log)]


def _difference(part: Assignment, label: str, log: LoadLog) -> list[str]:
    held = log.buffers.get(label)
    if held is None:
        return [f"{label} was planned {part.n_blocks} blocks and holds nothing"]
    found = []
    if not _is_close(held.model_bytes, part.weights_bytes):
        found.append(f"{label} was planned {part.weights_bytes} bytes of weights and holds {held.model_bytes}")
    if held.kv_blocks not in (0, part.n_blocks) and not _is_close(held.kv_bytes, part.kv_bytes):
        found.append(f"{label} was planned {part.n_blocks} blocks and has the KV cache of {held.kv_blocks}")
    return found


def _is_close(found_bytes: int, planned_bytes: int) -> bool:
    return abs(found_bytes - planned_bytes) <= TOLERANCE_BYTES + planned_bytes // TOLERANCE_SHARE

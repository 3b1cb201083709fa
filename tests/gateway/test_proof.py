"""The load log proves the plan, or says which device holds something else."""

from dataclasses import replace

import pytest

from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.engine.loadlog import DeviceBuffers, LoadLog
from rpc_wrapper.gateway.proof import differences
from rpc_wrapper.planner import Plan, Workload, make_plan
from tests.planner.profiles import even_profile, remote

PLAN: Plan = make_plan(even_profile(6, block_bytes=4 * MIB), remote(200, 200), Workload(ctx_size=1024))
LABELS = {"RPC0": "link-0", "RPC1": "link-1"}


def log_of(**changed: int) -> LoadLog:
    """Return the log of an engine that follows the plan, but for some figures of its first device."""
    held = {
        LABELS[each.device]: DeviceBuffers(each.weights_bytes, each.kv_bytes, each.compute_bytes, 0, each.n_blocks)
        for each in PLAN.assignments
    }
    held["link-0"] = replace(held["link-0"], **changed)
    return LoadLog(buffers=held)


def test_what_was_planned_is_no_difference() -> None:
    assert [each.endpoint for each in PLAN.assignments] == [Endpoint("w0", 50052), Endpoint("w1", 50052)]
    assert differences(PLAN, LABELS, log_of()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model_bytes": 5 * MIB}, ["bytes of weights and holds 5242880"]),
        ({"kv_bytes": 9 * MIB, "kv_blocks": 1}, ["blocks and has the KV cache of 1"]),
        ({"model_bytes": 0, "kv_bytes": 9 * MIB, "kv_blocks": 9}, ["holds 0", "KV cache of 9"]),
        ({"kv_blocks": 1}, []),  # caches of different widths: the log's count is a guess, the bytes are not
        ({"kv_bytes": 9 * MIB}, []),  # caches the planner does not know: the count says enough
        ({"compute_bytes": 1 << 40}, []),  # how much it computes with is no matter of placement
    ],
)
def test_other_weights_or_another_cache_is_told(changed: dict[str, int], words: list[str]) -> None:
    found = differences(PLAN, LABELS, log_of(**changed))
    assert len(found) == len(words)
    assert all(word in text and "link-0" in text for word, text in zip(words, found, strict=True))


def test_a_device_that_holds_nothing_is_told() -> None:
    log = log_of()
    del log.buffers["link-1"]
    assert differences(PLAN, LABELS, log) == ["link-1 was planned 3 blocks and holds nothing"]


def test_in_tensor_mode_the_log_proves_nothing() -> None:
    assert differences(PLAN, LABELS, LoadLog(tensor_parallel=True)) == []

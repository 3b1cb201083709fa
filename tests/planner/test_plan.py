"""Plans as values: JSON there and back, moving to other devices, and the check that guards both."""

import copy
import json
from typing import Any

import pytest

from rpc_wrapper.devices import MIB
from rpc_wrapper.errors import DoesNotFit, PlanError
from rpc_wrapper.planner import PlanOptions, Strategy, Workload, make_plan
from rpc_wrapper.planner.memory import SplitMode
from rpc_wrapper.planner.plan import plan_from_json, refusal_to_json, remap
from tests.planner.profiles import even_profile, local_cpu, remote

SMALL = Workload(ctx_size=512, n_ubatch=64)
PLAN = make_plan(even_profile(8), [*remote(300, 600), local_cpu(300)], SMALL)


@pytest.mark.parametrize("mode", ["layer", "tensor"])
@pytest.mark.parametrize("strategy", [Strategy.MEMORY, Strategy.UNIFORM])
def test_json_there_and_back_is_the_same(mode: SplitMode, strategy: Strategy) -> None:
    workload = Workload(ctx_size=512, split_mode=mode)
    plan = make_plan(even_profile(8), remote(300, 600), workload, PlanOptions(strategy=strategy))
    assert plan_from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_the_json_has_the_promised_names() -> None:
    value = PLAN.to_json()
    assert value["fits"] is True
    assert value["argv"] == PLAN.argv()
    assert set(value["assignments"][0]) >= {
        "endpoint",
        "device",
        "first_block",
        "last_block",
        "has_output",
        "weights_bytes",
        "kv_bytes",
        "compute_bytes",
        "budget_bytes",
    }
    assert value["assignments"][0]["endpoint"] is None
    assert value["assignments"][1]["endpoint"] == "w0:50052"
    assert value["host"]["embedding_bytes"] == MIB
    assert "strategy memory" in value["reason"]


def test_a_refusal_has_the_same_form() -> None:
    error = DoesNotFit("the model does not fit: 5 MiB short on w0:1", {"w0:1": 5 * MIB}, ("add a backend of 9 MiB",))
    assert json.loads(json.dumps(refusal_to_json(error))) == {
        "fits": False,
        "assignments": [],
        "argv": [],
        "shortfall_bytes": {"w0:1": 5 * MIB},
        "remedies": ["add a backend of 9 MiB"],
        "reason": "the model does not fit: 5 MiB short on w0:1",
    }


def change(path: list[Any], value: object) -> dict[str, Any]:
    changed = copy.deepcopy(PLAN.to_json())
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "not an object"),
        ([], "not an object"),
        ({}, "'fits' is missing"),
        (change(["fits"], False), "does not fit"),
        (change(["n_layer"], "8"), "'8' stands where int"),
        (change(["n_layer"], True), "True stands where int"),
        (change(["n_layer"], 9), "places 8 of 9 blocks"),
        (change(["strategy"], "magic"), "magic"),
        (change(["workload", "ctx_size"], -1), "ctx_size is -1"),
        (change(["workload", "split_mode"], "row"), "'row'"),
        (change(["assignments"], {}), "stands where list"),
        (change(["assignments", 0], 7), "not an object"),
        (change(["assignments", 1, "endpoint"], "nowhere"), "malformed"),
        (change(["assignments", 1, "endpoint"], 7), "stands where str"),
        (change(["assignments", 1, "first_block"], 0), "comes next"),
        (change(["assignments", 1, "share"], 7), "share 7"),
        (change(["assignments", 1, "budget_bytes"], 1), "short for this plan"),
    ],
)
def test_a_damaged_plan_is_refused(value: object, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan_from_json(value)


def test_a_plan_moves_to_other_devices() -> None:
    others = [local_cpu(200), *remote(700, 700)]
    moved = remap(PLAN, others)
    assert [each.share for each in moved.assignments] == [each.share for each in PLAN.assignments]
    assert [each.budget_bytes for each in moved.assignments] == [device.budget_bytes for device in others]
    assert "moved" in moved.reason[0]


def test_but_not_to_fewer_or_smaller_ones() -> None:
    with pytest.raises(PlanError, match="uses 3 devices, 2 are given"):
        remap(PLAN, remote(500, 500))
    with pytest.raises(DoesNotFit, match="w1:50052 is"):
        remap(PLAN, [local_cpu(200), *remote(700, 1)])


def test_a_plan_that_ends_on_the_cpu_cannot_be_made_by_moving() -> None:
    with pytest.raises(PlanError, match="only the first blocks"):
        remap(PLAN, [*remote(700, 700), local_cpu(700)])


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_the_weight_of_memory_has_bounds(weight: float) -> None:
    with pytest.raises(PlanError, match="memory_weight"):
        PlanOptions(memory_weight=weight)


def test_boundaries_belong_to_custom() -> None:
    with pytest.raises(PlanError, match="use strategy custom"):
        PlanOptions(boundaries=((0, 1),))

"""The plans that every strategy makes of the loaded model over the devices of the last start, side by side."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rpc_wrapper.devices import Device
from rpc_wrapper.errors import PlanError
from rpc_wrapper.gateway.start import ClusterConfig
from rpc_wrapper.planner import Strategy, make_plan
from rpc_wrapper.planner.plan import outcome_to_json


def compare_strategies(config: ClusterConfig, devices: Sequence[Device]) -> dict[str, Any]:
    """Return each strategy's plan or the sentence that refuses it; ``chosen`` is the one in force."""
    chosen = config.plan_options.strategy
    names = [each for each in Strategy if each is not Strategy.CUSTOM or chosen is Strategy.CUSTOM]
    return {
        "chosen": chosen.value,
        "strategies": [{"name": name.value, **_outcome(config, devices, name)} for name in names],
    }


def _outcome(config: ClusterConfig, devices: Sequence[Device], strategy: Strategy) -> dict[str, Any]:
    boundaries = config.plan_options.boundaries if strategy is Strategy.CUSTOM else ()
    options = replace(config.plan_options, strategy=strategy, boundaries=boundaries)
    try:
        return outcome_to_json(make_plan(config.profile, devices, config.workload, options))
    except PlanError as error:
        return outcome_to_json(error)

"""The engine is told of those backends alone that the plan uses, under the names it will give them."""

import pytest

from rpc_wrapper.devices import Device
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.gateway.placement import number_devices, use_only_planned
from rpc_wrapper.planner import PlanOptions, Strategy, Workload, make_plan
from tests.gateway.reports import GIB, report
from tests.planner.profiles import even_profile

OWN = Device("CUDA0", GIB, kind="cuda", free_bytes=GIB, total_bytes=GIB)


def test_devices_are_numbered_over_the_backends_in_order_and_then_come_ours():
    devices = number_devices([report("a", devices=2), report("b")], [OWN])
    assert [(each.name, str(each.endpoint)) for each in devices] == [
        ("RPC0", "a:1"),
        ("RPC1", "a:1"),
        ("RPC2", "b:1"),
        ("CUDA0", "None"),
    ]


def test_more_devices_than_the_engine_splits_over_are_refused():
    with pytest.raises(ConfigError, match="expose 16 devices, the engine splits over 15 at most"):
        number_devices([report("a", devices=8), report("b", devices=8)], [])


def test_a_plan_over_everybody_is_left_as_it_is():
    backends = [report("a"), report("b")]
    devices = number_devices(backends, [])
    plan = make_plan(even_profile(8), devices, Workload(ctx_size=256))
    placement = use_only_planned(plan, backends, [])
    assert (placement.plan, placement.backends, placement.devices) == (plan, tuple(backends), devices)


def test_whoever_holds_nothing_is_left_out_and_the_rest_is_numbered_anew():
    backends = [report("a"), report("b", free_bytes=8 * GIB), report("c")]
    devices = number_devices(backends, [])
    plan = make_plan(even_profile(8), devices, Workload(ctx_size=256), PlanOptions(strategy=Strategy.SINGLE_DEVICE))
    assert plan.argv()[:2] == ["--device", "RPC1"]
    placement = use_only_planned(plan, backends, [])
    assert placement.plan.argv()[:2] == ["--device", "RPC0"]
    assert [str(each.endpoint) for each in placement.backends] == ["b:1"]
    assert [device.name for device in placement.devices] == ["RPC0"]


def test_our_own_devices_keep_their_names():
    backends = [report("a", free_bytes=1 << 20)]
    devices = number_devices(backends, [OWN])
    plan = make_plan(even_profile(8), devices, Workload(ctx_size=256), PlanOptions(strategy=Strategy.SINGLE_DEVICE))
    placement = use_only_planned(plan, backends, [OWN])
    assert placement.backends == ()
    assert placement.plan.argv()[:2] == ["--device", "CUDA0"]

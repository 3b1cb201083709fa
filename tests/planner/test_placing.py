"""make_plan: invariants over many random plans, the host's part, and refusals with ways out that work."""

import random
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc_wrapper.devices import MIB, Device, Endpoint
from rpc_wrapper.errors import DoesNotFit, PlanError
from rpc_wrapper.planner import Plan, PlanOptions, Strategy, Workload, make_plan
from rpc_wrapper.planner.placing import check_model, place
from rpc_wrapper.planner.profile import Block, ModelProfile
from rpc_wrapper.planner.topology import planned_slots
from tests.planner.profiles import even_profile, local_cpu, profile_of, remote
from tests.planner.test_topology import placed_by_engine

SMALL = Workload(ctx_size=512, n_ubatch=64)


def parts(plan: Plan) -> list[tuple[str, int, int, bool]]:
    return [(each.device, each.first_block, each.last_block, each.has_output) for each in plan.assignments]


def assert_sound(plan: Plan, profile: ModelProfile) -> None:
    next_block = 0
    for each in plan.assignments:
        assert each.first_block == next_block
        assert each.n_blocks + each.has_output > 0
        assert each.total_bytes <= each.budget_bytes
        next_block = each.last_block + 1
    assert next_block == profile.n_layer
    assert [each.has_output for each in plan.assignments] == [False] * (len(plan.assignments) - 1) + [True]
    assert placed_by_engine(plan) == planned_slots(plan)


def random_case(chance: random.Random) -> tuple[ModelProfile, list[Device], Workload, PlanOptions]:
    n_layer = chance.randint(1, 60)
    blocks = [
        Block(s * MIB, s * MIB, 128, 128, chance.choice((0, 500))) for s in chance.choices(range(1, 40), k=n_layer)
    ]
    profile = profile_of(blocks, output_bytes=chance.randint(1, 60) * MIB)
    devices = list(remote(*(chance.randint(20, 900) for _ in range(chance.randint(1, 14)))))
    devices = [replace(device, speed=chance.choice((0.5, 1.0, 8.0))) for device in devices]
    if chance.random() < 0.3:
        devices.append(local_cpu(chance.randint(20, 900)))
    if chance.random() < 0.3:
        devices.append(Device("CUDA0", chance.randint(20, 900) * MIB, kind="cuda"))
    workload = Workload(ctx_size=chance.choice((256, 1024, 4096)), n_parallel=chance.randint(1, 4), n_ubatch=64)
    strategy = chance.choice([each for each in Strategy if each is not Strategy.CUSTOM])
    kept = chance.randint(1, n_layer - 1) if n_layer > 1 and chance.random() < 0.2 else None
    return (
        profile,
        devices[:15],
        workload,
        PlanOptions(strategy=strategy, split_layer=kept, memory_weight=chance.random()),
    )


def test_ten_thousand_random_plans_break_no_rule() -> None:
    chance = random.Random(7)
    n_fits, refusals = 0, []
    for _ in range(10_000):
        case = random_case(chance)
        try:
            plan = place(*case)
        except DoesNotFit as error:
            refusals.append(error)
        else:
            n_fits += 1
            assert_sound(plan, case[0])
    assert all(min(error.shortfall_bytes.values()) > 0 for error in refusals)
    assert min(n_fits, len(refusals)) > 1000  # the cases are neither all easy nor all hopeless


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**9), extra=st.integers(1, 500), which=st.integers(0, 14))
def test_more_memory_never_turns_a_fit_into_a_refusal(seed: int, extra: int, which: int) -> None:
    profile, devices, workload, options = random_case(random.Random(seed))
    options = replace(options, strategy=Strategy.MEMORY)
    try:
        place(profile, devices, workload, options)
    except DoesNotFit:
        return
    at = which % len(devices)
    devices[at] = replace(devices[at], budget_bytes=devices[at].budget_bytes + extra * MIB)
    place(profile, devices, workload, options)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_the_same_question_has_the_same_answer(seed: int) -> None:
    case = random_case(random.Random(seed))
    with suppress(DoesNotFit):
        assert place(*case) == place(*case)


def test_two_hundred_layers_over_fifteen_devices_are_planned_in_milliseconds() -> None:
    # The time is shown, not asserted: a busy machine must not fail a test.
    profile = even_profile(200, block_bytes=50 * MIB)
    devices = remote(*range(900, 2400, 100))
    began = time.perf_counter()
    plan = make_plan(profile, devices, SMALL)
    print(f"planned in {1000 * (time.perf_counter() - began):.1f} ms")
    assert_sound(plan, profile)
    assert len(plan.assignments) == 15


def test_every_backend_gets_a_share_by_default() -> None:
    assert parts(make_plan(even_profile(8, output_bytes=0), remote(600, 300, 300), SMALL)) == [
        ("RPC0", 0, 3, False),
        ("RPC1", 4, 5, False),
        ("RPC2", 6, 7, True),
    ]


def test_devices_that_hold_nothing_are_not_named() -> None:
    plan = make_plan(even_profile(8), remote(1, 500), SMALL)
    assert plan.argv() == ["--device", "RPC1", "--tensor-split", "9", "-ngl", "9", "--split-mode", "layer"]
    assert [str(endpoint) for endpoint in plan.endpoints] == ["w1:50052"]


def test_a_device_may_hold_the_output_alone() -> None:
    profile = even_profile(4, block_bytes=100 * MIB, output_bytes=300 * MIB)
    plan = make_plan(profile, remote(500, 420), SMALL)
    assert parts(plan) == [("RPC0", 0, 3, False), ("RPC1", 4, 3, True)]
    assert plan.argv()[3] == "4,1"
    assert_sound(plan, profile)


def test_local_devices_keep_their_places() -> None:
    gpu = Device("CUDA0", 500 * MIB, kind="cuda")
    plan = make_plan(even_profile(8), [gpu, *remote(500), local_cpu(500)], SMALL)
    assert [name for name, *_ in parts(plan)] == ["CPU", "RPC0", "CUDA0"]
    assert plan.argv()[1] == "RPC0,CUDA0"


@pytest.mark.parametrize(
    "options",
    [PlanOptions(split_layer=3), PlanOptions(gpu_layers=6), PlanOptions(split_layer=3, gpu_layers=6)],
)
def test_the_server_keeps_the_first_blocks_on_its_cpu(options: PlanOptions) -> None:
    plan = make_plan(even_profile(8), remote(500, 500), SMALL, options)
    assert parts(plan)[0] == ("CPU", 0, 2, False)
    assert plan.n_gpu_layers == 6
    assert plan.host.compute_bytes == 0


def test_or_on_its_accelerator_when_it_has_one() -> None:
    gpu = Device("CUDA0", 500 * MIB, kind="cuda")
    plan = make_plan(even_profile(8), [*remote(500, 500), gpu], SMALL, PlanOptions(split_layer=3))
    assert parts(plan)[0] == ("CUDA0", 0, 2, False)
    assert plan.argv()[1] == "CUDA0,RPC0,RPC1"
    assert plan.n_gpu_layers == 9


def test_the_edges_of_gpu_layers() -> None:
    everything = make_plan(even_profile(8), remote(500), SMALL, PlanOptions(gpu_layers=99))
    assert everything.n_gpu_layers == 9
    output_only = make_plan(even_profile(8), remote(500), SMALL, PlanOptions(gpu_layers=1))
    assert parts(output_only) == [("CPU", 0, 7, False), ("RPC0", 8, 7, True)]
    nothing = make_plan(even_profile(8), remote(500), SMALL, PlanOptions(gpu_layers=0))
    assert parts(nothing) == [("CPU", 0, 7, True)]
    assert nothing.argv() == ["--device", "none", "-ngl", "0"]


def test_a_server_without_backends_holds_everything() -> None:
    plan = make_plan(even_profile(8), [], SMALL, PlanOptions(strategy=Strategy.LOCAL))
    assert parts(plan) == [("CPU", 0, 7, True)]


def test_a_budget_of_the_host_counts_the_embedding_too() -> None:
    profile = even_profile(8)
    fits = make_plan(profile, [], SMALL, PlanOptions(strategy=Strategy.LOCAL, host_budget_bytes=100 * MIB))
    needed = fits.assignments[0].total_bytes + profile.embedding_bytes
    make_plan(profile, [], SMALL, PlanOptions(strategy=Strategy.LOCAL, host_budget_bytes=needed))
    with pytest.raises(DoesNotFit):
        make_plan(profile, [], SMALL, PlanOptions(strategy=Strategy.LOCAL, host_budget_bytes=needed - 1))


def test_one_device_may_be_chosen() -> None:
    plan = make_plan(even_profile(8), remote(500, 400), SMALL, PlanOptions(strategy=Strategy.SINGLE_DEVICE))
    assert parts(plan) == [("RPC0", 0, 7, True)]
    options = PlanOptions(strategy=Strategy.SINGLE_DEVICE, device="w1:50052")
    assert parts(make_plan(even_profile(8), remote(500, 400), SMALL, options)) == [("RPC1", 0, 7, True)]


REFUSED = [
    ([], PlanOptions(), "no device is left"),
    (remote(*[500] * 16), PlanOptions(), "16 devices are listed, the engine takes 15"),
    ((*remote(500), *remote(500)), PlanOptions(), "unique"),
    (remote(500), PlanOptions(split_layer=8), "split_layer is 8, a model of 8 blocks can be split at 1 to 7"),
    (remote(500), PlanOptions(split_layer=0), "split_layer is 0"),
    (remote(500), PlanOptions(gpu_layers=-1), "gpu_layers is -1"),
    (remote(500), PlanOptions(split_layer=3, gpu_layers=3), "keeps 6 blocks on the server but split_layer says 3"),
    ([], PlanOptions(split_layer=3), "nobody takes the rest"),
    (remote(500), PlanOptions(strategy=Strategy.SINGLE_DEVICE, device="x"), "there is no device 'x'"),
    (remote(500), PlanOptions(strategy=Strategy.CUSTOM), "0 boundaries are given for 1 devices"),
    ([Device("RPC0", MIB, Endpoint("w", 1), speed=0)], PlanOptions(), "speed 0"),
]


@pytest.mark.parametrize(("devices", "options", "message"), REFUSED)
def test_a_request_that_makes_no_sense_is_named(devices: Sequence[Device], options: PlanOptions, message: str) -> None:
    with pytest.raises(PlanError, match=re.escape(message)):
        make_plan(even_profile(8), devices, SMALL, options)


def refusal(
    devices: Sequence[Device], workload: Workload, options: PlanOptions | None = None, n_layer: int = 8
) -> DoesNotFit:
    with pytest.raises(DoesNotFit) as caught:
        make_plan(even_profile(n_layer, block_bytes=10 * MIB), devices, workload, options or PlanOptions())
    return caught.value


def test_a_refusal_says_who_lacks_how_much() -> None:
    error = refusal(remote(40, 30), SMALL)
    assert set(error.shortfall_bytes) == {"w0:50052", "w1:50052"}
    for label, missing in error.shortfall_bytes.items():
        assert f"{-(-missing // MIB)} MiB short on {label}" in str(error)


def test_the_remedies_work() -> None:
    workload = Workload(ctx_size=65536, n_parallel=4, n_ubatch=64)
    devices = remote(500, 500)
    error = refusal(devices, workload)
    profile = even_profile(8, block_bytes=10 * MIB)
    assert 1 <= len(error.remedies) <= 3
    for remedy in error.remedies:
        make_plan(profile, *apply(remedy, devices, workload))


def test_the_smallest_backend_that_helps_is_offered() -> None:
    error = refusal(remote(60), SMALL)
    (remedy,) = [each for each in error.remedies if "backend" in each]
    (size,) = (int(number) for number in re.findall(r"\d+", remedy))
    profile = even_profile(8, block_bytes=10 * MIB)
    make_plan(profile, remote(60, size), SMALL)
    with pytest.raises(DoesNotFit):
        make_plan(profile, remote(60, size - 1), SMALL)


def apply(remedy: str, devices: tuple[Device, ...], workload: Workload) -> tuple[tuple[Device, ...], Workload]:
    numbers = [int(number) for number in re.findall(r"(?<![qf_\d])\d+(?!_)", remedy)]
    if "--cache-type-k" in remedy:
        kind = remedy.split()[2]
        return devices, replace(workload, cache_type_k=kind, cache_type_v=kind)
    if "--parallel" in remedy:
        return devices, replace(workload, n_parallel=numbers[0])
    if "--ctx-size" in remedy:
        return devices, replace(workload, ctx_size=numbers[0])
    return (*devices, Device("RPC9", numbers[0] * MIB, Endpoint("new", 1))), workload


def test_another_strategy_is_offered_when_it_fits() -> None:
    error = refusal(remote(200, 20), SMALL, PlanOptions(strategy=Strategy.UNIFORM))
    assert error.remedies[0] == "use --strategy memory"


def test_tensor_mode_gives_everyone_a_share() -> None:
    workload = replace(SMALL, split_mode="tensor")
    plan = make_plan(even_profile(8), remote(600, 300), workload)
    assert plan.argv() == ["--device", "RPC0,RPC1", "--tensor-split", "43,21", "-ngl", "9", "--split-mode", "tensor"]
    assert [each.n_blocks for each in plan.assignments] == [8, 8]
    with pytest.raises(PlanError, match="own CPU"):
        make_plan(even_profile(8), [*remote(600), local_cpu(600)], workload)


def test_a_plan_knows_its_model() -> None:
    plan = make_plan(even_profile(8), remote(500, 500), SMALL)
    check_model(plan, even_profile(8))
    with pytest.raises(PlanError, match="for 8 blocks, the model has 9"):
        check_model(plan, even_profile(9))
    with pytest.raises(PlanError, match="other weights"):
        check_model(plan, even_profile(8, block_bytes=2 * MIB))

"""The real engine does what the plan says: placement slot by slot, and memory as predicted."""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from rpc_wrapper.devices import MIB, Device, Endpoint
from rpc_wrapper.engine.binaries import find_engine
from rpc_wrapper.engine.loadlog import LoadLog
from rpc_wrapper.planner import Plan, PlanOptions, Strategy, Workload, make_plan, read_profile
from rpc_wrapper.planner.topology import compare
from rpc_wrapper.planner.truncate import truncate_model

pytestmark = pytest.mark.engine
MODEL = Path(__file__).parents[2] / "models" / "demo.gguf"
WORKLOAD = Workload(ctx_size=512, n_parallel=2)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def child(stack: ExitStack, argv: Sequence[str | Path]) -> subprocess.Popen[str]:
    """Start a program that ends with the stack; its output comes through a pipe."""
    environ = os.environ | {"GGML_NO_BACKTRACE": "1"}
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, restore_signals=False
    )
    stack.callback(process.stdout.close)  # type: ignore[union-attr]
    stack.callback(process.wait, 30)
    stack.callback(process.kill)
    return process


@pytest.fixture(scope="module")
def backends() -> Iterator[tuple[Device, ...]]:
    """Three real workers of one thread."""
    program = find_engine(None).worker
    with ExitStack() as stack:
        devices = []
        for index in range(3):
            port = free_port()
            worker = child(stack, ["stdbuf", "-oL", program, "-H", "127.0.0.1", "-p", str(port), "-t", "1"])
            assert worker.stdout is not None
            assert any("endpoint" in line for line in worker.stdout), "the worker never listened"
            devices.append(Device(f"RPC{index}", 512 * MIB, Endpoint("127.0.0.1", port)))
        yield tuple(devices)


def load(plan: Plan, devices: Sequence[Device], model: Path = MODEL) -> LoadLog:
    """Start llama-server as planned and return what it says it did."""
    workload = plan.workload
    argv: list[str | Path] = [find_engine(None).server, "-m", model, "--host", "127.0.0.1", "--port", str(free_port())]
    argv += ["--rpc", ",".join(str(device.endpoint) for device in devices), *plan.argv(), "-fit", "off", "-lv", "5"]
    argv += ["-c", str(plan.n_ctx), "-np", str(workload.n_parallel), "--no-kv-unified", "--no-warmup", "-t", "1"]
    log = LoadLog()
    with ExitStack() as stack:
        server = child(stack, argv)
        assert server.stdout is not None
        for line in server.stdout:
            log.feed(line)
            if log.is_listening:
                break
    assert log.is_listening, "llama-server ended before it was ready"
    return log


STRATEGIES = [
    PlanOptions(),
    PlanOptions(strategy=Strategy.UNIFORM),
    PlanOptions(strategy=Strategy.COMPUTE),
    PlanOptions(strategy=Strategy.MIXED),
    PlanOptions(strategy=Strategy.CUSTOM, boundaries=((0, 0), (1, 5), (6, 7))),
    PlanOptions(strategy=Strategy.SINGLE_DEVICE, device="RPC1"),
    PlanOptions(strategy=Strategy.LOCAL),
    PlanOptions(split_layer=1),
    PlanOptions(split_layer=4),
    PlanOptions(split_layer=7),
    PlanOptions(gpu_layers=1),
]


@pytest.mark.parametrize("options", STRATEGIES, ids=lambda options: f"{options.strategy}-{options.split_layer}")
def test_the_engine_does_what_the_plan_says(backends: tuple[Device, ...], options: PlanOptions) -> None:
    plan = make_plan(read_profile(MODEL), backends, WORKLOAD, options)
    log = load(plan, backends)
    assert compare(plan, log.placement) == []
    for each in plan.offloaded:
        held = log.buffers[each.label]
        assert held.model_bytes == pytest.approx(each.weights_bytes, rel=0.01, abs=MIB // 50)
        assert held.kv_bytes == pytest.approx(each.kv_bytes, abs=MIB // 50)
        assert held.total_bytes == pytest.approx(each.total_bytes, rel=0.05, abs=8 * MIB)


def test_a_truncated_model_loads(backends: tuple[Device, ...], tmp_path: Path) -> None:
    profile = truncate_model(MODEL, tmp_path / "short.gguf", 5)
    plan = make_plan(profile, backends, WORKLOAD)
    assert compare(plan, load(plan, backends, tmp_path / "short.gguf").placement) == []

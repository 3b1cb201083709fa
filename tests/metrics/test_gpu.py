"""GPUs as the driver's library tells them; where there is no driver, there are none."""

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from rpc_wrapper.metrics import gpu
from rpc_wrapper.metrics.exposition import render
from rpc_wrapper.metrics.gpu import GPUReader, gpu_families, read_gpus
from rpc_wrapper.usage import GPU


@pytest.fixture(autouse=True)
def _fresh():
    gpu._has_nvml.cache_clear()
    yield
    gpu._has_nvml.cache_clear()


def answers(monkeypatch: pytest.MonkeyPatch, **calls: Callable[..., Any]) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    for name, call in calls.items():
        monkeypatch.setattr(pynvml, f"nvmlDeviceGet{name}", call)


def test_without_a_driver_there_are_no_gpus(monkeypatch):
    def missing():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert read_gpus() == ()
    assert render(gpu_families(())) == b""


def test_a_driver_that_goes_away_takes_its_gpus_along_and_no_other_metric(monkeypatch):
    def lost():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)

    answers(monkeypatch, Count=lost)
    assert read_gpus() == ()


def test_what_one_gpu_does_not_say_costs_nothing_but_that(monkeypatch):
    def busy(handle):
        if handle == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=25)

    def memory(handle):
        if handle == 2:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return SimpleNamespace(used=100, total=400)

    answers(
        monkeypatch,
        Count=lambda: 3,
        HandleByIndex=lambda index: index,
        Name=lambda handle: f"GPU {handle}",
        MemoryInfo=memory,
        UtilizationRates=busy,
    )
    assert read_gpus() == (GPU(0, "GPU 0", 100, 400, 0.25), GPU(1, "GPU 1", 100, 400, None))
    text = render(gpu_families(read_gpus())).decode()
    assert 'rpcw_gpu_busy_ratio{gpu="0",name="GPU 0"} 0.25' in text
    assert 'rpcw_gpu_busy_ratio{gpu="1"' not in text
    assert 'rpcw_gpu_memory_total_bytes{gpu="1",name="GPU 1"} 400.0' in text
    assert read_gpus()[0].to_json()["used_bytes"] == 100


async def test_a_driver_that_hangs_keeps_nobody_waiting(monkeypatch):
    goes_on, readings = threading.Event(), []

    def slow() -> tuple[GPU, ...]:
        readings.append(1)
        goes_on.wait(5)
        return (GPU(0, "slow", 1, 2),)

    monkeypatch.setattr(gpu, "read_gpus", slow)
    reader = GPUReader()
    assert [reader.latest() for _ in range(3)] == [()] * 3
    goes_on.set()
    for _ in range(500):
        if found := reader.latest():
            break
        assert len(readings) <= 1
        await asyncio.sleep(0.01)
    assert found[0].name == "slow"

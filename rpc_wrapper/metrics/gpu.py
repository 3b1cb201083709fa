"""NVIDIA GPUs of this machine, as the driver's own library (NVML) tells; no driver, no GPUs."""

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any

import pynvml
from prometheus_client import Metric

from rpc_wrapper.metrics.exposition import gauge
from rpc_wrapper.usage import GPU


@cache
def _has_nvml() -> bool:
    """Load the library once: it stays loaded for the life of the process."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return True


def read_gpus() -> tuple[GPU, ...]:
    """Return every GPU that this process may see; one that fails while it is asked is left out."""
    if not _has_nvml():
        return ()
    found = []
    for index in range(_count()):
        try:
            found.append(_read(index))
        except pynvml.NVMLError:
            continue
    return tuple(found)


class GPUReader:
    """Read the GPUs beside the event loop, one reading at a time: a driver that hangs keeps nobody waiting."""

    def __init__(self) -> None:
        self._latest: tuple[GPU, ...] = ()
        self._reading: asyncio.Future[tuple[GPU, ...]] | None = None

    def latest(self) -> tuple[GPU, ...]:
        """Return what was read last and begin the next reading; nothing the first time."""
        if self._reading is not None and self._reading.done():
            self._latest, self._reading = self._reading.result(), None
        if self._reading is None:
            self._reading = asyncio.get_running_loop().run_in_executor(None, read_gpus)
        return self._latest


def _count() -> int:
    try:
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:  # the driver was taken away since: no reason to show no metrics at all
        return 0


def _read(index: int) -> GPU:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name = pynvml.nvmlDeviceGetName(handle)
    return GPU(index, str(name), int(memory.used), int(memory.total), _busy(handle))


def _busy(handle: Any) -> float | None:
    try:
        return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
    except pynvml.NVMLError:  # not on GPUs that are divided (MIG)
        return None


def gpu_families(gpus: Sequence[GPU]) -> list[Metric]:
    """Return the families of some GPUs."""

    def labels(each: GPU) -> dict[str, str]:
        return {"gpu": str(each.index), "name": each.name}

    return [
        gauge(
            "rpcw_gpu_busy_ratio",
            "Share of the last moments in which a GPU computed.",
            [(labels(each), each.busy) for each in gpus],
        ),
        gauge(
            "rpcw_gpu_memory_used_bytes",
            "Memory in use on a GPU, by whomever.",
            [(labels(each), each.used_bytes) for each in gpus],
        ),
        gauge(
            "rpcw_gpu_memory_total_bytes",
            "Memory of a GPU.",
            [(labels(each), each.total_bytes) for each in gpus],
        ),
    ]

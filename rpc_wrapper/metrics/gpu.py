"""NVIDIA GPUs of this machine, as the driver's own library (NVML) tells; no driver, no GPUs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import pynvml
from prometheus_client import Metric

from rpc_wrapper.metrics.exposition import gauge


@dataclass(frozen=True, slots=True)
class GPU:
    """One GPU now; ``busy`` is the share of the last moments in which it computed, None where it will not say."""

    index: int
    name: str
    used_bytes: int
    total_bytes: int
    busy: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


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

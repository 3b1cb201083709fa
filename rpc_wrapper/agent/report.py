"""The worker in JSON, under the names that docker-distributed-llm's worker gives its figures."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from rpc_wrapper.devices import MIB
from rpc_wrapper.usage import GPU

MIN_WINDOW_S = 0.2  # a share of the processor over less than this is noise


@dataclass(frozen=True, slots=True)
class _Mark:
    pid: int
    at: float
    cpu_s: float
    percent: float


class Reporter:
    """Report on one worker; who asks twice in a moment gets the same share of the processor."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._mark: _Mark | None = None

    def report(self, pid: int | None, *, is_up: bool, gpus: tuple[GPU, ...] = ()) -> Mapping[str, Any] | None:
        """Return the body of a running worker, None when there is none."""
        if pid is None:
            return None
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                memory = process.memory_info()
                return {
                    "worker_id": self._worker_id,
                    "status": "online" if is_up else "offline",
                    "memory": {"rss_mb": _mib(memory.rss), "vms_mb": _mib(memory.vms)},
                    "cpu": {"usage_percent": self._percent(process), "num_threads": process.num_threads()},
                    "io": _io(process),
                    "gpu": [gpu.to_json() for gpu in gpus],
                    "uptime_seconds": round(time.time() - process.create_time(), 3),
                }
        except psutil.Error:
            return None

    def _percent(self, process: psutil.Process) -> float:
        """Return the processor's share since the last question, since the start for the first; 100 is one core."""
        now, times, last = time.monotonic(), process.cpu_times(), self._mark
        cpu_s = times.user + times.system
        if last is None or last.pid != process.pid:
            spent_s, elapsed_s = cpu_s, time.time() - process.create_time()
        elif now - last.at < MIN_WINDOW_S:
            return last.percent
        else:
            spent_s, elapsed_s = cpu_s - last.cpu_s, now - last.at
        percent = round(100 * spent_s / elapsed_s, 1) if elapsed_s > 0 else 0.0
        self._mark = _Mark(process.pid, now, cpu_s, percent)
        return percent


def _mib(size_bytes: int) -> float:
    return round(size_bytes / MIB, 1)


def _io(process: psutil.Process) -> dict[str, int]:
    try:
        counts = process.io_counters()
    except (psutil.AccessDenied, AttributeError):  # not on macOS; not of a process that gave up its rights
        return {"read_count": 0, "write_count": 0}
    return {"read_count": counts.read_count, "write_count": counts.write_count}

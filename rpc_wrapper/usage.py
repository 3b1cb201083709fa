"""What processes take of the machine: processor time since their start, and memory now."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds, user and system, and resident bytes; of two usages the difference in time is the load."""

    cpu_s: float
    rss_bytes: int


def usage(*pids: int | None) -> Usage | None:
    """Return what processes use together; those that are gone count nothing, None when none is left."""
    found = [each for each in map(_usage_of, pids) if each is not None]
    if not found:
        return None
    return Usage(round(sum(each.cpu_s for each in found), 3), sum(each.rss_bytes for each in found))


def _usage_of(pid: int | None) -> Usage | None:
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Usage(times.user + times.system, process.memory_info().rss)
    except psutil.Error:
        return None

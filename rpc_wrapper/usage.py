"""What is used of a machine: processor time since their start and memory now by processes, and its GPUs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds, user and system, and resident bytes; of two usages the difference in time is the load."""

    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class GPU:
    """One GPU now; ``busy`` is the share of the last moments in which it computed, None where it will not say."""

    index: int
    name: str
    used_bytes: int
    total_bytes: int
    busy: float | None = None

    @classmethod
    def from_json(cls, body: object) -> Self | None:
        """Read what :meth:`to_json` wrote; return None when that is not what it is."""
        if not isinstance(body, Mapping) or not isinstance(body.get("name"), str):
            return None
        numbers: list[Any] = [body.get(name) for name in ("index", "used_bytes", "total_bytes")]
        busy = body.get("busy")
        if not all(type(number) is int and number >= 0 for number in numbers) or type(busy) not in (
            int,
            float,
            type(None),
        ):
            return None
        return cls(numbers[0], body["name"], numbers[1], numbers[2], busy)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


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

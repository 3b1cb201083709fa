"""This machine as a child of ours may use it: CPU quota, threads, memory limit, CPU features, container."""

import math
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_NO_LIMIT_BYTES = 1 << 60  # cgroup v1 writes "no limit" as a huge page-aligned number
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """What the control groups allow; None is no limit. ``cpus`` is a quota, so 1.5 is one and a half CPUs."""

    cpus: float | None
    memory_bytes: int | None


def read_cgroup(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> CgroupLimits:
    """Read the tightest limits of our control group and those above it; knows cgroup v2 and v1."""
    cpus: list[float] = []
    memory: list[int] = []
    for folder in cgroup_folders(root, membership):
        if (quota := _quota(folder)) is not None:
            cpus.append(quota)
        if (limit := _memory_limit(folder)) is not None:
            memory.append(limit)
    return CgroupLimits(min(cpus, default=None), min(memory, default=None))


def cgroup_folders(root: Path, membership: Path) -> list[Path]:
    """Return our control group's folders up to the root; inside a namespace they may be the root itself."""
    folders: list[Path] = []
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        base = root / controllers.removeprefix("name=") if controllers else root
        here = base / path.lstrip("/")
        folders += [folder for folder in (here, *here.parents) if folder.is_relative_to(base)]
    return folders or [root]


def _quota(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()  # v2: "150000 100000" or "max 100000"
    if not words:  # v1
        words = [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
    try:
        quota_us, period_us = (int(word) for word in words)
    except ValueError:
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _memory_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):  # v2, v1
        text = _text(folder / name)
        if text.isdigit() and int(text) < _NO_LIMIT_BYTES:
            return int(text)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def cpu_quota() -> float | None:
    """Return how many CPUs the control group allows, None when it sets no limit."""
    return read_cgroup().cpus


def cpu_count() -> int:
    """Return the CPUs that this process may run on, whatever its quota."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return the threads that compute best here: the quota, else physical cores, at least 1, never more than CPUs.

    A second thread on one core shares the vector units it would need, and threads beyond the quota are put to sleep
    in the middle of a barrier that all others spin on.
    """
    return choose_threads(cpu_quota(), cpu_count(), psutil.cpu_count(logical=False), os.cpu_count() or 1)


def choose_threads(quota: float | None, available: int, cores: int | None, logical: int) -> int:
    """Choose from the quota, the CPUs available to us, and the machine's cores and logical CPUs. Pure."""
    per_core = max(1, logical // cores) if cores else 1
    usable = max(1, available // per_core)
    return usable if quota is None else max(1, min(usable, math.floor(quota)))


def memory_limit_bytes() -> int:
    """Return the memory this process may use: the control group's limit, else all of the machine's."""
    limit, total = read_cgroup().memory_bytes, psutil.virtual_memory().total
    return int(total if limit is None else min(limit, total))


def available_bytes() -> int:
    """Return the memory that can be had now without swapping."""
    return min(int(psutil.virtual_memory().available), memory_limit_bytes())


@cache
def boot_id() -> str:
    """Return what is the same until the machine starts anew, in its containers too."""
    known = _text(Path("/proc/sys/kernel/random/boot_id"))  # Linux
    return known or f"{psutil.boot_time():.0f}"


def is_container() -> bool:
    """Tell whether this is a container, as far as its usual marks say."""
    if any(Path(mark).exists() for mark in _CONTAINER_MARKS):
        return True
    return b"container=" in _bytes(Path("/proc/1/environ"))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@dataclass(frozen=True, slots=True)
class CPU:
    """The processor: its name and the features it advertises, in the kernel's words."""

    name: str
    features: frozenset[str]

    @property
    def has_amx(self) -> bool:
        """Tell whether it advertises AMX, which some cloud machines then do not allow."""
        return "amx_tile" in self.features

    @property
    def vector_features(self) -> tuple[str, ...]:
        """Return the features that decide the engine's speed, slowest first."""
        wanted = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile")
        return tuple(word for word in (*wanted, "asimd", "asimddp", "i8mm", "sve") if word in self.features)


def parse_cpuinfo(text: str) -> CPU:
    """Read /proc/cpuinfo as x86 (``flags``) and arm (``Features``) kernels write it. Pure."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = found.get("model name") or found.get("Model") or found.get("CPU part", "")
    return CPU(name, frozenset((found.get("flags") or found.get("Features") or "").split()))


@cache
def cpu() -> CPU:
    """Return this machine's processor."""
    found = parse_cpuinfo(_text(Path("/proc/cpuinfo")))
    return found if found.name else CPU(platform.processor() or platform.machine(), found.features)


@dataclass(frozen=True, slots=True)
class PortUser:
    """Who listens on a port; pid and name are None when the system would not say."""

    port: int
    pid: int | None
    name: str | None


def port_user(port: int) -> PortUser | None:
    """Return who listens on TCP ``port`` here, None when it is free."""
    try:
        listening = [
            found
            for found in psutil.net_connections(kind="tcp")
            if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port
        ]
    except psutil.AccessDenied:  # macOS, unless root
        return None
    if not listening:
        return None
    pid = listening[0].pid
    return PortUser(port, pid, _process_name(pid))


def _process_name(pid: int | None) -> str | None:
    try:
        return psutil.Process(pid).name() if pid is not None else None
    except psutil.Error:
        return None

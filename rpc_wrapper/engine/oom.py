"""Whether the kernel killed for want of memory: the evidence without which SIGKILL is only a signal somebody sent."""

from dataclasses import dataclass
from pathlib import Path

from rpc_wrapper.devices import MIB
from rpc_wrapper.engine.machine import cgroup_folders, read_cgroup

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
VMSTAT = Path("/proc/vmstat")


@dataclass(frozen=True, slots=True)
class OomKills:
    """How many processes the kernel has killed so far; ``limit_bytes`` is the limit they were held to, if any."""

    count: int
    limit_bytes: int | None = None

    def since(self, earlier: "OomKills") -> str | None:
        """Say what happened since then, as a clause; None when nothing was killed."""
        if self.count <= earlier.count:
            return None
        if self.limit_bytes is None:
            return "the machine ran out of memory"
        return f"it ran out of memory at the limit of {self.limit_bytes // MIB} MiB on this container or service"


def read_oom_kills(root: Path = CGROUPS, membership: Path = MEMBERSHIP, vmstat: Path = VMSTAT) -> OomKills:
    """Read the counter closest to us: our control group's (cgroup v2, v1), else the machine's (/proc/vmstat).

    The control group's counts its own members only, whoever the memory was short for. No counter reads as 0.
    """
    for folder in cgroup_folders(root, membership):
        for name in ("memory.events", "memory.oom_control"):  # v2, v1
            count = _counter(folder / name)
            if count is not None:
                return OomKills(count, read_cgroup(root, membership).memory_bytes)
    return OomKills(_counter(vmstat) or 0)


def _counter(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)

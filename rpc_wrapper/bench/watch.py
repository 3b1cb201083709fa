"""Follow a target's processes and links, as far as they run on this machine or tell over HTTP."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from rpc_wrapper.bench.stats import NodeUse

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Reading:
    """One moment: processor seconds and peak memory of each process, and the bytes its links have carried."""

    at_s: float
    cpu_s: dict[str, float]
    peak_rss_bytes: dict[str, int]
    link_bytes: int | None


class Watch:
    """Read one target's processes and links; ``root_pid`` is the process that listens, None when it is elsewhere."""

    def __init__(self, http: httpx.AsyncClient, root_pid: int | None) -> None:
        self._http = http
        self._root_pid = root_pid

    async def read(self) -> Reading:
        """Return how things stand; a process that ended meanwhile is left out, and so is one nobody tells about."""
        if self._root_pid is not None:
            return Reading(time.perf_counter(), *_seen(self._root_pid), _link_bytes(await self.cluster()))
        with contextlib.suppress(httpx.HTTPError):
            await self._http.get("/workers/status")  # makes a gateway look at its nodes
        cluster = await self.cluster()
        return Reading(time.perf_counter(), *_told(cluster), _link_bytes(cluster))

    async def cluster(self) -> dict[str, Any]:
        """Return the target's ``/cluster``, empty when it has none."""
        try:
            answer = await self._http.get("/cluster")
            value = answer.json() if answer.is_success else {}
        except (httpx.HTTPError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}


def _seen(root_pid: int) -> tuple[dict[str, float], dict[str, int]]:
    """Return processor seconds and peak memory of a process and its children, by name."""
    cpu_s, peak = {}, {}
    for name, process in _named(_family(root_pid)):
        try:
            times = process.cpu_times()
            cpu_s[name], peak[name] = times.user + times.system, peak_rss_bytes(process)
        except psutil.Error:
            continue
    return cpu_s, peak


def _told(cluster: dict[str, Any]) -> tuple[dict[str, float], dict[str, int]]:
    """Return what a gateway elsewhere tells of its nodes: processor seconds, and memory at this moment."""
    nodes = [each for each in cluster.get("nodes") or () if each.get("cpu_s") is not None]
    return {each["name"]: float(each["cpu_s"]) for each in nodes}, {
        each["name"]: int(each["rss_bytes"]) for each in nodes
    }


def _link_bytes(cluster: dict[str, Any]) -> int | None:
    links = cluster.get("links")
    if not links:
        return None
    return int(sum(link["bytes_to_backend"] + link["bytes_from_backend"] for link in links))


def between(before: Reading, after: Reading) -> tuple[tuple[NodeUse, ...], int | None]:
    """Return what each process, and all links together, took from one reading to the next."""
    seconds = max(after.at_s - before.at_s, 1e-9)
    nodes = tuple(
        NodeUse(name, 100 * (after.cpu_s[name] - before.cpu_s[name]) / seconds, after.peak_rss_bytes[name])
        for name in after.cpu_s
        if name in before.cpu_s
    )
    known = before.link_bytes is not None and after.link_bytes is not None
    return nodes, (after.link_bytes or 0) - (before.link_bytes or 0) if known else None


def listener_pid(base_url: str) -> int | None:
    """Return the process that answers at a URL of this machine; None when it is elsewhere, or not ours to see."""
    url = urlsplit(base_url)
    if url.hostname not in LOOPBACK:
        return None
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):  # macOS shows them to root only
        return None
    owners = [each.pid for each in connections if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (url.port,)]
    return owners[0] if owners else None


def plan_text(cluster: dict[str, Any]) -> str:
    """Return in one line which device holds which blocks, empty when the target does not say."""
    plan = cluster.get("plan") or {}
    parts = [
        f"{each['endpoint'] or each['device']}: blocks {each['first_block']}-{each['last_block']}"
        + (" and output" if each["has_output"] else "")
        for each in plan.get("assignments", ())
    ]
    return f"{plan['strategy']}, split by {plan['workload']['split_mode']}: {'; '.join(parts)}" if parts else ""


def _family(root_pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(root_pid)
        return [root, *sorted(root.children(recursive=True), key=lambda child: child.pid)]
    except psutil.Error:
        return []


def _named(processes: Iterable[psutil.Process]) -> Iterable[tuple[str, psutil.Process]]:
    """Yield each program that matters under the name people know it by; workers are numbered as they were started."""
    workers = 0
    for number, process in enumerate(processes):
        try:
            program = Path((process.cmdline() or [""])[0]).name
        except psutil.Error:
            continue
        if "rpc-server" in program:
            workers += 1
            yield f"worker {workers}", process
        elif "llama-server" in program:
            yield "llama-server", process
        elif number == 0:
            yield "gateway", process


def peak_rss_bytes(process: psutil.Process) -> int:
    """Return the most resident memory a process ever had; where the kernel does not tell, what it has now."""
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):  # proc_pid_status(5)
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux, or gone
        pass
    return int(process.memory_info().rss)

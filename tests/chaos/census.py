"""Who runs under a process, looked at many times a second: whoever was ever there, and never two engines at once."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Seen:
    """One process; a pid alone may come again, with its start time (clock ticks since boot) it does not."""

    pid: int
    started: int
    name: str

    @property
    def lives(self) -> bool:
        """Tell whether it still runs."""
        return look(self.pid) == self


class Census:
    """Watch the children of the processes given to it, while the context lasts (Linux: it reads /proc)."""

    def __init__(self, engine: str = "llama-server") -> None:
        self.engine = engine
        self.ever: set[Seen] = set()
        self.most_engines = 0
        self._parents: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="census", daemon=True)

    def __enter__(self) -> "Census":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def add(self, pid: int) -> None:
        """Watch one more process and its children."""
        self._parents = {*self._parents, pid}  # replaced, for the thread goes through the old one
        self.ever |= {seen for seen in [look(pid)] if seen}

    def left(self) -> list[Seen]:
        """Return whoever was ever there and still is."""
        return [seen for seen in self.ever if seen.lives]

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            now = {seen for pid in self._parents for seen in children(pid)}
            self.ever |= now
            self.most_engines = max(self.most_engines, sum(self._serves(seen) for seen in now))

    def _serves(self, seen: Seen) -> bool:
        """Tell whether this is an engine at work; the same program is also asked for its flags, for a moment."""
        return seen.name == self.engine[:15] and b"--port" in argv(seen.pid)


def children(pid: int) -> Iterator[Seen]:
    """Yield the living children of a process."""
    try:
        lists = [path.read_text() for path in (PROC / str(pid) / "task").glob("*/children")]
    except OSError:  # it has ended
        return
    for child in " ".join(lists).split():
        seen = look(int(child))
        if seen is not None:
            yield seen


def look(pid: int) -> Seen | None:
    """Return a living process, None when it has ended, reaped or not (proc(5), /proc/pid/stat)."""
    try:
        head, _, tail = (PROC / str(pid) / "stat").read_text().rpartition(")")
    except OSError:
        return None
    fields = tail.split()
    if fields[0] in "ZX":
        return None
    return Seen(pid, int(fields[19]), head.partition("(")[2])


def argv(pid: int) -> list[bytes]:
    """Return a process's command line; nothing once it has ended."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def count_fds(pid: int) -> int:
    """Return how many file descriptors a process holds."""
    return len(list((PROC / str(pid) / "fd").iterdir()))


def rss_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    status = (PROC / str(pid) / "status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

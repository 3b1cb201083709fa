"""Keep a worker's tensor cache in bounds: damaged files go first, then the least recently used ones.

With ``-c`` a worker stores each tensor of more than 10 MiB under ``$LLAMA_CACHE/rpc``, in a file named by the FNV-1a
hash of its bytes in 16 hex digits (``rpc_server::set_tensor`` in ggml-rpc.cpp), and believes whatever it finds there
later. Nothing in the engine ever removes one, and it writes in place: who kills it cuts the file short that it is
writing, which is the newest. A machine that loses its power may also lose what its kernel had not written down yet.

Hashing manages some 25 MB per second, so only what may be damaged is hashed. A note beside the files remembers when the
last run began and under which boot of the machine, until somebody saw that run end.
"""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rpc_wrapper.link.fnv import hash_of

MIN_BYTES = 10 * 1024 * 1024  # HASH_THRESHOLD, ggml-rpc.cpp: a tensor must be larger than this to be cached
HASHED_BYTES = 1 << 31  # of many doubtful files: beyond this, sending them again is quicker
WRITE_BACK_S = 60.0  # by then Linux has put a file on the disk (vm.dirty_expire_centisecs is half of it)
NOTE = "last-run"
_NAME = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, by file name, and how much is left in this cache."""

    damaged: tuple[str, ...]
    evicted: tuple[str, ...]
    kept: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class TensorCache:
    """The cache of one worker, a folder of its own beside those of other workers of this machine.

    ``quota_bytes`` bounds it together with what workers that run no more left in the folders beside it.
    """

    folder: Path
    quota_bytes: int

    def begin(self, boot_id: str) -> Pruned:
        """Make it fit for a run under this boot of the machine, before the worker starts; raise OSError."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        entries = _entries(self.folder)
        damaged = [entry for entry in entries if entry.size_bytes <= MIN_BYTES]
        damaged += _damaged(self._doubtful([entry for entry in entries if entry not in damaged], boot_id))
        sound = [entry for entry in entries if entry not in damaged]
        with _alone_in(self.folder.parent):
            idle = self._idle_neighbours(boot_id)
            evicted = _beyond(self.quota_bytes, [*sound, *(entry for folder in idle for entry in _entries(folder))])
            for entry in (*damaged, *evicted):
                entry.path.unlink(missing_ok=True)
            for folder in idle:
                _remove_if_empty(folder)
            self.folder.mkdir(exist_ok=True)
            (self.folder / NOTE).write_text(boot_id)
        kept = [entry for entry in sound if entry not in evicted]
        return Pruned(_names(damaged), _names(evicted), len(kept), sum(entry.size_bytes for entry in kept))

    def end(self) -> None:
        """Take note that the worker has ended under our eyes, and leave nothing behind when it cached nothing.

        One that had not written for a while was not writing when it ended: then all of its files are whole.
        """
        note = self.folder / NOTE
        with suppress(OSError):  # the next run then believes less than it could
            began_ns = note.stat().st_mtime_ns
            note.write_text("")
            newest = _entries(self.folder)[:1]
            if newest and note.stat().st_mtime - newest[0].modified_at < WRITE_BACK_S:
                os.utime(note, ns=(began_ns, began_ns))
        _remove_if_empty(self.folder)

    def drop_if_cut(self, digest: int, size_bytes: int) -> bool:
        """Remove a tensor whose file is shorter than it, and tell whether it was, before the worker uses the stump.

        A worker does not look whether the disk took what it wrote, and fills a tensor as far as its file goes.
        """
        path = self.folder / "rpc" / f"{digest:016x}"
        with suppress(OSError):
            if path.stat().st_size < size_bytes:
                path.unlink()
                return True
        return False

    def _doubtful(self, entries: Sequence["_Entry"], boot_id: str) -> Sequence["_Entry"]:
        """Return those that may be damaged, the newest first, by how the last run ended."""
        note = self.folder / NOTE
        try:
            began_at, boot = note.stat().st_mtime, note.read_text()
        except FileNotFoundError:  # nobody knows where these come from
            return entries
        if boot in ("", boot_id):  # its end was seen, or the kernel at least has lived on
            return [entry for entry in entries if entry.modified_at >= began_at][:1]
        return [entry for entry in entries if entry.modified_at >= began_at - WRITE_BACK_S]

    def _idle_neighbours(self, boot_id: str) -> list[Path]:
        """Return the folders beside this one whose workers surely do not run."""
        folders = [folder for folder in self.folder.parent.iterdir() if folder.name.isdigit() and folder.is_dir()]
        return [folder for folder in folders if folder != self.folder and _note(folder) != boot_id]


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    size_bytes: int
    modified_at: float
    used_at: float


def _entries(folder: Path) -> list[_Entry]:
    """Return a cache's files, the newest first; a neighbour that tidies up may take some away at any time."""
    found = []
    with suppress(FileNotFoundError):
        for path in (folder / "rpc").iterdir():
            with suppress(FileNotFoundError):
                if _NAME.fullmatch(path.name) and path.is_file():
                    found.append(_entry(path))
    return sorted(found, key=lambda entry: entry.modified_at, reverse=True)


def _entry(path: Path) -> _Entry:
    stat = path.stat()
    # relatime lets the access time lag behind; it is never behind the writing by more than that
    return _Entry(path, stat.st_size, stat.st_mtime, max(stat.st_atime, stat.st_mtime))


def _damaged(doubtful: Sequence[_Entry]) -> Iterable[_Entry]:
    """Yield those whose bytes are not what their name says, and those beyond what is worth hashing."""
    hashed_bytes = 0
    for place, entry in enumerate(doubtful):
        hashed_bytes += entry.size_bytes
        if (place > 0 and hashed_bytes > HASHED_BYTES) or not _is_whole(entry.path):
            yield entry


def _is_whole(path: Path) -> bool:
    try:
        return hash_of(path) == path.name
    except FileNotFoundError:  # a neighbour has made room meanwhile
        return False


def _beyond(quota_bytes: int, entries: Sequence[_Entry]) -> list[_Entry]:
    """Return the least recently used of the entries, as many as are too much."""
    left_bytes = sum(entry.size_bytes for entry in entries)
    evicted = []
    for entry in sorted(entries, key=lambda entry: entry.used_at):
        if left_bytes <= quota_bytes:
            break
        evicted.append(entry)
        left_bytes -= entry.size_bytes
    return evicted


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep the other backends of this machine from tidying up while the context lasts."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _note(folder: Path) -> str | None:
    try:
        return (folder / NOTE).read_text()
    except OSError:
        return None


def _remove_if_empty(folder: Path) -> None:
    """Remove a cache that holds no tensor; whatever else lies there keeps it."""
    with suppress(OSError):
        (folder / "rpc").rmdir()
    with suppress(OSError):
        if all(path.name == NOTE for path in folder.iterdir()):
            (folder / NOTE).unlink(missing_ok=True)
            folder.rmdir()


def _names(entries: Iterable[_Entry]) -> tuple[str, ...]:
    return tuple(entry.path.name for entry in entries)

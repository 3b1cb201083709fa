"""Start children, read what they print, signal and reap them: the only place that does."""

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable

from rpc_wrapper.logs import RingBuffer
from rpc_wrapper.supervisor.launch import Launch

LINES_KEPT = 200
LONGEST_LINE_BYTES = 8192
_PUMP_DEADLINE_S = 1.0
_PR_SET_PDEATHSIG = 1  # prctl(2)

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_log = logging.getLogger(__name__)


class LogPump(asyncio.Protocol):
    """Cut what a child prints into lines; it always drains the pipe, so that a child never blocks on its log."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        self._hear = hear
        self._partial = bytearray()
        self._is_cut = False  # the rest of an over-long line is being dropped
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the pipe and hear every line that is complete."""
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._add(piece)
            self._flush()
        self._add(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear what the child printed last, newline or not."""
        if self._partial:
            self._flush()
        self.closed.set()

    def _add(self, piece: bytes) -> None:
        room = LONGEST_LINE_BYTES - len(self._partial)
        self._is_cut |= len(piece) > room
        self._partial += piece[:room]

    def _flush(self) -> None:
        line = self._partial.decode(errors="replace").rstrip("\r") + ("…" if self._is_cut else "")
        self._partial.clear()
        self._is_cut = False
        try:
            self._hear(line)
        except Exception:  # raised here it would close the pipe, and the child would die of SIGPIPE
            _log.exception("a listener of the child's log failed")


class Child:
    """One running child, the leader of its own session and process group."""

    def __init__(
        self, process: asyncio.subprocess.Process, lines: RingBuffer, pump: LogPump, pipe: asyncio.BaseTransport
    ) -> None:
        self.pid = process.pid
        self.lines = lines
        self._process = process
        self._pump = pump
        self._pipe = pipe
        self._is_settled = False
        self.was_killed = False  # by us

    def terminate(self) -> None:
        """Send SIGTERM to the process alone, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill_group(self) -> None:
        """Send SIGKILL to everything in the child's process group, the child included."""
        if not self._is_settled:
            self.was_killed = True
            _kill_group(self.pid)

    async def wait(self) -> int:
        """Return the return code once the child is reaped, its group is gone and its last line was heard."""
        returncode = await self._process.wait()
        if not self._is_settled:
            _kill_group(self.pid)  # what the child has left behind
            self._is_settled = True
        try:
            async with asyncio.timeout(_PUMP_DEADLINE_S):
                await self._pump.closed.wait()
        except TimeoutError:  # a descendant left the group and holds the pipe: not ours to wait for
            self._pipe.close()
        return returncode


async def spawn(launch: Launch, hear: Callable[[str], None] = lambda _: None) -> Child:
    """Start a child in its own session, its output in one pipe; raise OSError when the system refuses.

    On Linux it dies with us (PR_SET_PDEATHSIG): with the thread that runs this event loop, to be exact.
    """
    lines = RingBuffer(LINES_KEPT)

    def keep(line: str) -> None:
        lines.append(line)
        hear(line)

    pump = LogPump(keep)
    reader, writer = os.pipe()
    try:
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: pump, os.fdopen(reader, "rb", buffering=0))
        try:
            process = await asyncio.create_subprocess_exec(
                *launch.argv,
                env=launch.environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                start_new_session=True,
                # SIGPIPE stays ignored, as Python has it: a worker whose client left in mid-answer would die of it.
                restore_signals=False,
                preexec_fn=_before_exec(launch.rlimit_as_bytes),
            )
        except BaseException:
            pipe.close()
            raise
    finally:
        os.close(writer)
    return Child(process, lines, pump, pipe)


def _before_exec(rlimit_as_bytes: int | None) -> Callable[[], None]:
    """Return what the forked child does to itself before it becomes the program; it may touch next to nothing."""
    parent = os.getpid()

    def prepare() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)
        if rlimit_as_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (rlimit_as_bytes, rlimit_as_bytes))

    return prepare


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
        os.killpg(pid, signal.SIGKILL)

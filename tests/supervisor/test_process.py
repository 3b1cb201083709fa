"""Real children: what they print, how they end, and that nothing of them is left."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from rpc_wrapper.supervisor.launch import Launch
from rpc_wrapper.supervisor.process import LINES_KEPT, LONGEST_LINE_BYTES, Child, LogPump, spawn

Launcher = Callable[..., Launch]


async def spawn_until(launch: Launch, line: str) -> Child:
    """Spawn a child and return once it has printed the line."""
    seen = asyncio.Event()
    child = await spawn(launch, lambda heard: seen.set() if heard.startswith(line) else None)
    async with asyncio.timeout(30):
        await seen.wait()
    return child


async def test_every_line_is_heard_and_the_last_are_kept(launch: Launcher) -> None:
    heard: list[str] = []
    child = await spawn(launch("--print-lines", "1000", "--exit-after", "0", "--exit-code", "7"), heard.append)
    assert await child.wait() == 7
    assert heard == [f"line {number}" for number in range(1000)]
    assert list(child.lines) == heard[-LINES_KEPT:]


async def test_an_over_long_line_is_cut(launch: Launcher) -> None:
    child = await spawn(launch("--long-line", "1000000", "--exit-after", "0"))
    await child.wait()
    assert list(child.lines) == ["x" * LONGEST_LINE_BYTES + "…"]


async def test_a_listener_that_fails_does_not_stop_the_pump(launch: Launcher, caplog: pytest.LogCaptureFixture) -> None:
    def fail(line: str) -> None:
        raise ValueError(line)

    child = await spawn(launch("--print-lines", "3", "--exit-after", "0"), fail)
    assert await child.wait() == 0
    assert "a listener of the child's log failed" in caplog.text


@pytest.mark.parametrize("chunks", [[b"a\r\nb\xff\nc"], [b"a\r", b"\nb", b"\xff", b"\n", b"c"]])
def test_pump_joins_chunks_and_decodes_anything(chunks: list[bytes]) -> None:
    heard: list[str] = []
    pump = LogPump(heard.append)
    for chunk in chunks:
        pump.data_received(chunk)
    pump.connection_lost(None)
    assert heard == ["a", "b\N{REPLACEMENT CHARACTER}", "c"]


async def test_terminate_reaches_the_process_once_asked(launch: Launcher) -> None:
    child = await spawn_until(launch("--ready-line", "up"), "up")
    child.terminate()
    assert await child.wait() == 0
    child.terminate()  # too late is harmless
    child.kill_group()


async def test_each_child_leads_its_own_session(launch: Launcher) -> None:
    child = await spawn_until(launch("--ready-line", "up"), "up")
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
    child.kill_group()
    assert await child.wait() == -signal.SIGKILL


async def test_what_a_child_leaves_behind_ends_with_it(launch: Launcher) -> None:
    child = await spawn_until(launch("--fork-grandchild", "--ready-line", "up"), "up")
    child.terminate()  # the grandchild ignores it
    async with asyncio.timeout(30):
        assert await child.wait() == 0


async def test_a_descendant_that_left_the_group_does_not_hold_up_the_wait(launch: Launcher) -> None:
    child = await spawn_until(launch("--fork-grandchild", "--leave-group", "--ready-line", "up"), "up")
    grandchild = int(next(iter(child.lines)).split()[1])
    child.terminate()
    async with asyncio.timeout(30):
        assert await child.wait() == 0
    os.kill(grandchild, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(grandchild)] if psutil.pid_exists(grandchild) else [], timeout=10)


async def test_a_cancelled_wait_can_be_taken_up_again(launch: Launcher) -> None:
    child = await spawn_until(launch("--ready-line", "up"), "up")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await child.wait()
    child.kill_group()
    assert await child.wait() == -signal.SIGKILL


async def test_a_missing_program_is_an_os_error_and_leaks_nothing(environ: dict[str, str]) -> None:
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            await spawn(Launch(("/no/such/program",), environ))
    await asyncio.sleep(0)  # the transports close in the next turn of the loop
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces RLIMIT_AS")
async def test_the_address_space_is_capped(launch: Launcher) -> None:
    flags = ("--allocate-mib", "2048", "--exit-after", "0")
    child = await spawn(launch(*flags, rlimit_as_bytes=1 << 30))
    assert await child.wait() == 1
    assert "MemoryError" in " ".join(child.lines)


SUPERVISOR = """
import asyncio, os, sys
from rpc_wrapper.supervisor.launch import Launch
from rpc_wrapper.supervisor.process import spawn

async def main():
    argv = (sys.executable, "-m", "tests.fakes.child", "--ignore-sigterm", "--ready-line", "up")
    child = await spawn(Launch(argv, dict(os.environ)), lambda line: print(child_pid(), flush=True))
    children.append(child.pid)
    await child.wait()

children = []
def child_pid():
    return children[0]

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
def test_a_killed_supervisor_leaves_no_child(environ: dict[str, str]) -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR], env=environ, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        child = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()
    gone, alive = psutil.wait_procs([child], timeout=30)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE], gone

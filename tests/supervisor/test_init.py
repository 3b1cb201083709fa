"""The first process of a container, tried as a subreaper: orphans come to it as they would to process 1."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux")

INIT = """
import ctypes, os, signal, sys, time
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
from rpc_wrapper.supervisor.init import become_init
become_init()
"""

ORPHAN = """
read, write = os.pipe()
if os.fork() == 0:  # this one leaves an orphan that ends at once
    if os.fork() == 0:
        os.write(write, str(os.getpid()).encode()); os._exit(0)
    os._exit(0)
os.wait()
orphan = int(os.read(read, 20))
end = time.monotonic() + 20
while os.path.exists(f"/proc/{orphan}"):
    if time.monotonic() > end: sys.exit("the orphan was not reaped")
    time.sleep(0.01)
sys.exit(5)
"""

SIGNALS = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
print("up", flush=True)
while True: signal.pause()
"""


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", INIT + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_orphans_are_reaped_and_the_exit_code_is_the_programs():
    with start(ORPHAN) as init:
        _, errors = init.communicate(timeout=60)
    assert (init.returncode, errors) == (5, "")


def test_signals_are_forwarded():
    with start(SIGNALS) as init:
        assert init.stdout is not None
        assert init.stdout.readline() == "up\n"
        init.send_signal(signal.SIGTERM)
        assert init.wait(30) == 9


def test_death_by_a_signal_is_reported_as_shells_do():
    with start("os.kill(os.getpid(), signal.SIGKILL)") as init:
        assert init.wait(30) == 128 + signal.SIGKILL

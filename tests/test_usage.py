"""What processes take of the machine."""

import os
import subprocess
import sys

from rpc_wrapper.usage import usage

NOBODY = 2**22 + 1  # more than the kernel's largest pid


def test_a_process_that_computes_uses_time_and_memory():
    before = usage(os.getpid())
    sum(number * number for number in range(3_000_000))
    after = usage(os.getpid())
    assert before is not None
    assert after is not None
    assert after.cpu_s > before.cpu_s
    assert after.rss_bytes > 1_000_000


def test_processes_add_up_and_the_dead_count_nothing():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        own, both = usage(os.getpid()), usage(os.getpid(), child.pid, None, NOBODY)
        assert own is not None
        assert both is not None
        assert both.rss_bytes > own.rss_bytes
        child.communicate(b"\n")
    assert usage(child.pid) is None
    assert usage(None, NOBODY) is None

"""A child that misbehaves on demand: ``python -m tests.fakes.child --help``.

It prints first, then forks, then says that it is ready, then exits, dies or stays until SIGTERM (exit 0).
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence

STOP = frozenset({signal.SIGTERM})
FOR_EVER_S = 1e6


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A child that misbehaves on demand.")
    parser.add_argument("--print-lines", type=int, default=0, metavar="N", help="print 'line 0' to 'line N-1'")
    parser.add_argument("--long-line", type=int, default=0, metavar="BYTES", help="print one line of that many x")
    parser.add_argument("--fork-grandchild", action="store_true", help="fork, and print 'grandchild PID'")
    parser.add_argument("--leave-group", action="store_true", help="put the grandchild into a session of its own")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--ready-line", metavar="TEXT", help="print TEXT when everything above is in place")
    parser.add_argument("--exit-after", type=float, metavar="S", help="exit by itself after S seconds")
    parser.add_argument("--exit-code", type=int, default=0, metavar="N")
    parser.add_argument("--die-by", metavar="SIGNAL", help="end by this signal instead of an exit: SIGSEGV")
    parser.add_argument("--spin", action="store_true", help="burn a core while waiting")
    parser.add_argument("--allocate-mib", type=int, default=0, metavar="N", help="allocate memory before readiness")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    for number in range(options.print_lines):
        print(f"line {number}")
    if options.long_line:
        print("x" * options.long_line)
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # waited for below: a handler may come in the middle of a lock
    memory = bytearray(options.allocate_mib << 20)
    if options.fork_grandchild:
        fork_grandchild(options.leave_group)
    if options.ready_line:
        print(options.ready_line, flush=True)
    sys.stdout.flush()
    was_told = wait(options)
    del memory
    if was_told:
        return 0
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
    if options.die_by:
        os.kill(os.getpid(), signal.Signals[options.die_by])
    return int(options.exit_code)


def wait(options: argparse.Namespace) -> bool:
    """Wait for SIGTERM or the end of the time given; tell whether it was SIGTERM."""
    heeded = frozenset[signal.Signals]() if options.ignore_sigterm else STOP
    left_s = FOR_EVER_S if options.exit_after is None else options.exit_after
    if not options.spin:
        return signal.sigtimedwait(heeded, left_s) is not None
    end = time.monotonic() + left_s
    while time.monotonic() < end:
        if signal.sigpending() & heeded:
            return True
    return False


def fork_grandchild(leave_group: bool) -> None:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        if leave_group:
            os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()
    print(f"grandchild {pid}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""The duty of process 1 in a container: reap orphans and pass signals on.

A supervisor that is process 1 itself would have to tell its own children, whom their owners wait for, from adopted
ones, whom nobody does. So process 1 stays a few lines that only do this, and the supervisor runs as its child.
"""

import os
import signal

_FORWARDED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
_SI_KERNEL = 0x80  # siginfo: the terminal sent it, so the child in our process group has it already


def become_init() -> None:
    """Fork: the child returns and is the program; the parent reaps and forwards until it ends, with its exit code.

    Call it before any thread, event loop or file is opened, and only if ``os.getpid() == 1``.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})
    program = os.fork()
    if program == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return
    os._exit(_serve(program))


def _serve(program: int) -> int:
    """Reap whatever ends and forward signals, until the program ends; return its exit code (128 + n for signal n)."""
    while True:
        info = signal.sigwaitinfo(_FORWARDED | {signal.SIGCHLD})
        if info.si_signo != signal.SIGCHLD:
            if info.si_code != _SI_KERNEL:
                os.kill(program, info.si_signo)
            continue
        for pid, status in _reap():
            if pid == program:
                returncode = os.waitstatus_to_exitcode(status)
                return returncode if returncode >= 0 else 128 - returncode


def _reap() -> list[tuple[int, int]]:
    """Reap every child that has ended, ours or adopted; return their pids and wait statuses."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))

"""The fake child does what its flags say."""

import os
import signal
import subprocess
import sys

import pytest


def start(*flags: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.fakes.child", *flags]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)


def finish(*flags: str) -> tuple[int, list[str]]:
    child = start(*flags)
    out, _ = child.communicate(timeout=30)
    return child.returncode, out.splitlines()


def test_prints_and_exits_as_told():
    code, lines = finish(
        "--print-lines", "2", "--long-line", "5", "--ready-line", "go", "--exit-after", "0", "--exit-code", "3"
    )
    assert (code, lines) == (3, ["line 0", "line 1", "xxxxx", "go"])


def test_dies_by_a_signal():
    assert finish("--exit-after", "0", "--die-by", "SIGSEGV")[0] == -signal.SIGSEGV


@pytest.mark.parametrize("flags", [(), ("--spin",)])
def test_sigterm_ends_it_with_zero(flags: tuple[str, ...]) -> None:
    with start("--ready-line", "go", *flags) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "go\n"
        child.terminate()
        assert child.wait(30) == 0


def test_ignores_sigterm_and_leaves_a_grandchild():
    with start("--ignore-sigterm", "--fork-grandchild", "--ready-line", "go") as child:
        assert child.stdout is not None
        word, pid = child.stdout.readline().split()
        assert (word, child.stdout.readline()) == ("grandchild", "go\n")
        assert os.getpgid(int(pid)) == child.pid
        child.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)
        os.killpg(child.pid, signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL

"""The census sees who runs under a process, engines at work apart from those that are only asked something."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.chaos import census

SLEEPER = "#!/bin/sh\nsleep 30 & wait\n"
DEADLINE_S = 10.0

pytestmark = pytest.mark.skipif(not census.PROC.is_dir(), reason="the census reads /proc, which only Linux has")


def until(claim: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def family(*argvs: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a parent with a child per argv; all are gone afterwards."""
    code = f"import subprocess, sys; [subprocess.Popen(a) for a in {list(argvs)!r}]; sys.stdin.read()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)
    members: list[psutil.Process] = []
    try:
        until(lambda: len(psutil.Process(parent.pid).children()) == len(argvs))
        members = psutil.Process(parent.pid).children(recursive=True)
        yield parent
    finally:
        for process in [*members, psutil.Process(parent.pid)]:
            if process.is_running():
                process.kill()
        parent.communicate()


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Return a program that has an engine's name."""
    path = tmp_path / "llama-server"
    path.write_text(SLEEPER)
    path.chmod(0o755)
    return path


def test_two_engines_at_once_are_seen(engine: Path):
    with census.Census() as watch, family([str(engine), "--port", "1"], [str(engine), "--port", "2"]) as parent:
        watch.add(parent.pid)
        until(lambda: watch.most_engines == 2)


def test_an_engine_that_only_tells_its_version_is_none(engine: Path):
    with census.Census() as watch, family([str(engine), "--port", "1"], [str(engine), "--version"]) as parent:
        watch.add(parent.pid)
        until(lambda: sum(seen.name == "llama-server" for seen in watch.ever) == 2)
        until(lambda: watch.most_engines)
        assert watch.most_engines == 1


def test_whoever_is_left_is_named_until_it_ends():
    with census.Census() as watch, family(["sleep", "30"]) as parent:
        watch.add(parent.pid)
        until(lambda: len(watch.ever) > 1)
        child = next(seen for seen in watch.ever if seen.name == "sleep")
        assert child in watch.left()
        psutil.Process(child.pid).kill()
        until(lambda: child not in watch.left())

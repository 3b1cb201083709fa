"""Real children for tests, and proof that none is left."""

import os
import sys
import uuid
from collections.abc import Callable, Iterator

import psutil
import pytest

from rpc_wrapper.supervisor.launch import Launch

_MARK = "TEST_CHILD_MARK"


def marked(mark: str) -> list[psutil.Process]:
    """Return every living process that carries the mark in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def mark() -> Iterator[str]:
    """Give a mark for this test's processes, and fail when one of them outlives it."""
    mark = uuid.uuid4().hex
    yield mark
    left = marked(mark)
    for process in left:
        process.kill()
    assert not left, f"orphans: {left}"


@pytest.fixture
def environ(mark: str) -> dict[str, str]:
    return {**os.environ, _MARK: mark}


@pytest.fixture
def launch(environ: dict[str, str]) -> Callable[..., Launch]:
    """Return a maker of launches of the fake child with some flags."""

    def make(*flags: str, rlimit_as_bytes: int | None = None, ready_deadline_s: float = 30) -> Launch:
        argv = (sys.executable, "-m", "tests.fakes.child", *flags)
        return Launch(argv, environ, rlimit_as_bytes=rlimit_as_bytes, ready_deadline_s=ready_deadline_s)

    return make

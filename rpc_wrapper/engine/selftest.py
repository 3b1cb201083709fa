"""Lets the engine compute a few tokens on this CPU, in a child: the only way to know that it survives.

A CPU may advertise AMX that its hypervisor then forbids; the engine dies of SIGILL with the first matrix product.
"""

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from rpc_wrapper.engine.failure import Failure, classify

TIMEOUT_S = 60.0
_SPEED = re.compile(r'"avg_ts": (?P<speed>[\d.]+)')


@dataclass(frozen=True, slots=True)
class SelfTest:
    """``failure`` is None when the engine computed; ``detail`` is a sentence."""

    failure: Failure | None
    detail: str
    tokens_per_s: float | None = None


def compute_here(bench: Path, model: Path, threads: int) -> SelfTest:
    """Read 32 tokens and generate 4 with ``llama-bench`` on the local CPU alone; blocks for about a second."""
    argv = [
        str(bench),
        "-m",
        str(model),
        "-ngl",
        "0",
        "-t",
        str(threads),
        "-p",
        "32",
        "-n",
        "4",
        "-r",
        "1",
        "-o",
        "json",
    ]
    began = time.monotonic()
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False, errors="replace"
        )
    except OSError as error:
        return SelfTest(Failure.UNKNOWN, f"{bench} does not start ({error.strerror}).")
    except subprocess.TimeoutExpired:
        return SelfTest(Failure.UNKNOWN, f"{bench.name} computed nothing within {TIMEOUT_S:g} s.")
    return judge(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def judge(returncode: int, stdout: str, stderr: str, took_s: float) -> SelfTest:
    """Say what a run of ``llama-bench -o json`` showed. Pure."""
    speeds = [float(match["speed"]) for match in _SPEED.finditer(stdout)]
    if returncode == 0 and speeds:
        return SelfTest(None, f"32 tokens read and 4 generated in {took_s:.1f} s.", speeds[-1])
    failure = classify(stderr.splitlines(), returncode)
    last = (stderr.strip().splitlines() or ["no output"])[-1]
    return SelfTest(failure, f"the engine ended with {returncode} ({last[:160]}). {failure.advice}")

"""Look at the machine before and after a measurement, so that a number can be judged by where it came from."""

import asyncio
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime

import psutil

from rpc_wrapper.bench.report import Environment
from rpc_wrapper.devices import MIB

BUSY_SAMPLE_S = 2.0
GIT_TIMEOUT_S = 10.0


async def busy_share() -> float:
    """Return the share of the machine's processor time (0 to 1) that is in use, over two seconds.

    Ask while nothing is measured: it is what other work would take from a measurement.
    """
    percent = await asyncio.to_thread(psutil.cpu_percent, BUSY_SAMPLE_S)
    return float(percent) / 100


def environment(
    command: str, engine: str, cpu: str, cores: float, busy: tuple[float, float], plans: Mapping[str, str] | None = None
) -> Environment:
    """Return the facts of this machine and checkout; ``busy`` is before and after, ``plans`` are by target."""
    return Environment(
        command=command,
        cpu=cpu,
        cores=cores,
        memory_mib=psutil.virtual_memory().total // MIB,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        engine=engine,
        git_revision=git_revision(),
        date=datetime.now(UTC).date().isoformat(),
        busy_before=busy[0],
        busy_after=busy[1],
        plans=dict(plans or {}),
    )


def git_revision() -> str:
    """Return the checkout's revision, with ``+`` when it holds uncommitted changes, or ``unknown``."""
    try:
        revision = _git("rev-parse", "--short", "HEAD")
        return revision + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, timeout=GIT_TIMEOUT_S)
    return done.stdout.strip()

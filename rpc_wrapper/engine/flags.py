"""The flags a llama.cpp program accepts, from its own ``--help``: a flag that was removed is never passed."""

import re
import subprocess
from functools import lru_cache
from pathlib import Path

from rpc_wrapper.errors import EngineError

HELP_TIMEOUT_S = 20.0

# One option starts at the margin: `-c,    --ctx-size N    text`; the text goes on far to the right.
_NAMES = re.compile(r"\s{0,2}(?P<names>--?[A-Za-z][\w.-]*(?:,\s+--?[A-Za-z][\w.-]*)*)(?P<rest>.*)")
_REMOVED = "the argument has been removed"


def parse_help(text: str) -> frozenset[str]:
    """Return every flag that a help text offers, without those it only keeps to say that they are gone."""
    options = (match for line in text.splitlines() if (match := _NAMES.fullmatch(line)))
    return frozenset(
        name for option in options if _REMOVED not in option["rest"] for name in re.split(r",\s+", option["names"])
    )


def accepted_flags(program: Path) -> frozenset[str]:
    """Return the flags that ``program`` accepts; raise EngineError when it cannot say.

    Remembered until the file changes. Blocks for as long as ``program --help`` takes.
    """
    try:
        modified_ns = program.stat().st_mtime_ns
    except OSError as error:
        raise EngineError(f"{program} cannot be read ({error.strerror}): run scripts/setup again") from error
    return _accepted_flags(program, modified_ns)


@lru_cache(maxsize=16)
def _accepted_flags(program: Path, modified_ns: int) -> frozenset[str]:
    flags = parse_help(output_of([str(program), "--help"], HELP_TIMEOUT_S))
    if not flags:
        raise EngineError(f"{program} --help lists no flag: it is no llama.cpp program, set APP_ENGINE_DIR")
    return flags


def output_of(argv: list[str], timeout_s: float) -> str:
    """Run a program that ends by itself and return both of its streams; raise EngineError when it fails."""
    program = argv[0]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False, errors="replace"
        )
    except OSError as error:
        raise EngineError(f"{program} does not start ({error.strerror}): run scripts/setup again") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{program} did not end within {timeout_s:g} s: run scripts/setup again") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EngineError(f"{program} ended with {done.returncode} ({last}): run scripts/setup again")
    return done.stdout + done.stderr

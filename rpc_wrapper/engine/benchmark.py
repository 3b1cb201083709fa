"""How ``llama-bench`` is asked to time a model on one device alone, and what it answers. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rpc_wrapper.devices import Device, Endpoint
from rpc_wrapper.errors import EngineError

N_TOKENS = 16
REPETITIONS = 3
HOST_CPU = "CPU"

_SAMPLES = re.compile(r'"samples_ns": \[\s*(?P<samples>\d+(?:,\s*\d+)*)\s*\]')


@dataclass(frozen=True, slots=True)
class Stand:
    """Where to measure: a device, and the address under which the engine reaches its backend."""

    device: Device
    address: Endpoint | None = None

    def flags(self) -> list[str]:
        """Return the flags that let ``llama-bench`` compute there and nowhere else.

        With one backend registered its devices are RPC0 and on, whatever the plan calls them.
        """
        if self.address is not None:
            return ["--rpc", str(self.address), "--device", f"RPC{self.device.index}", "-ngl", "999"]
        if self.device.name == HOST_CPU:
            return ["--device", "none", "-ngl", "0"]
        return ["--device", self.device.name, "-ngl", "999"]


def bench_argv(program: Path, model: Path, stand: Stand, threads: int) -> tuple[str, ...]:
    """Return the command that generates some tokens a few times over; ``threads`` are the host's own."""
    runs = ["-p", "0", "-n", str(N_TOKENS), "-r", str(REPETITIONS), "-t", str(threads)]
    return (str(program), "-m", str(model), *runs, *stand.flags(), "-o", "json")


def token_s(lines: Sequence[str], returncode: int) -> float:
    """Return the seconds per token of the least disturbed run that the output lists; raise EngineError."""
    match = _SAMPLES.search(" ".join(lines))
    if returncode != 0 or match is None:
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        raise EngineError(f"llama-bench ended with {returncode} ({last}): look at the backend's own log")
    return min(int(each) for each in match["samples"].split(",")) / 1e9 / N_TOKENS

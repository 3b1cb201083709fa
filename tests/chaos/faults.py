"""What can go wrong, and what each of it may cost: no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class FaultKind(StrEnum):
    """One way in which a cluster is struck."""

    KILL_SERVER = "kill -9 llama-server"
    KILL_WORKER = "kill -9 worker"
    FREEZE_SERVER = "SIGSTOP llama-server"
    FREEZE_WORKER = "SIGSTOP worker"
    BLIP_WORKER = "SIGSTOP worker, CONT after 5 s"
    SLOW_LINK = "link 40 ms slower for 3 s"
    HALF_OPEN = "machine unreachable, nothing reset"
    PORT_REFUSED = "port refused for 2 s"
    AGENT_SILENT = "agent unreachable for 5 s, data flows"
    WORKER_RESTARTED = "worker restarted, memory empty"
    KILL_AGENT = "kill -9 agent"
    TWO_AT_ONCE = "two at once"
    DURING_RECOVERY = "kill during recovery"
    DURING_LOAD = "kill during load"
    DURING_PREFILL = "kill during prefill"
    DURING_DECODE = "kill after 64 tokens"


# What passes by itself within the deadlines: nobody may be fenced for it.
HARMLESS = frozenset({FaultKind.BLIP_WORKER, FaultKind.SLOW_LINK, FaultKind.AGENT_SILENT})
# What only silence tells.
SILENT = frozenset({FaultKind.FREEZE_SERVER, FaultKind.FREEZE_WORKER, FaultKind.HALF_OPEN})
PAIRED = (FaultKind.KILL_SERVER, FaultKind.KILL_WORKER, FaultKind.PORT_REFUSED, FaultKind.KILL_AGENT)


@dataclass(frozen=True, slots=True)
class Fault:
    """One strike: what, at which backend, and how long after it was decided."""

    kind: FaultKind
    backend: int
    pause_s: float
    also: tuple["Fault", ...] = ()  # struck at the same moment


def draw(kinds: Sequence[FaultKind], count: int, n_backends: int, seed: int) -> list[Fault]:
    """Return so many faults in a random order; each kind as often as the others, give or take one."""
    random = Random(seed)
    drawn: list[FaultKind] = []
    while len(drawn) < count:
        drawn += random.sample(kinds, len(kinds))
    return [_fault(kind, n_backends, random) for kind in drawn[:count]]


def _fault(kind: FaultKind, n_backends: int, random: Random) -> Fault:
    backend = random.randrange(n_backends)
    also: tuple[Fault, ...] = ()
    if kind is FaultKind.TWO_AT_ONCE:
        also = tuple(Fault(random.choice(PAIRED), backend, 0.0) for _ in range(2))
    return Fault(kind, backend, random.uniform(0.0, 1.0), also)

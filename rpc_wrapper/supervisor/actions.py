"""What the life cycle asks its runner to do, in the imperative; and which state owns which work.

There is no action to cancel anything. Work belongs to the states that own it (``OWNERS``) and ends with them, so no
timer and no watch can outlive its purpose and report to a state that never asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from rpc_wrapper.supervisor.launch import Launch
from rpc_wrapper.supervisor.status import State


class Work(StrEnum):
    """What runs beside the states; of what has ended at the same moment, the first here is heard first."""

    CHILD = "child"  # waits for the child's exit
    PREPARE = "prepare"
    READINESS = "readiness"
    WATCH = "watch"
    DEADLINE = "readiness deadline"
    KILL = "kill deadline"
    BACKOFF = "backoff"


OWNERS: Mapping[Work, frozenset[State]] = {
    Work.CHILD: frozenset({State.STARTING, State.READY, State.FENCING, State.STOPPING}),
    Work.PREPARE: frozenset({State.PREPARING}),
    Work.READINESS: frozenset({State.STARTING}),
    Work.WATCH: frozenset({State.READY}),
    Work.DEADLINE: frozenset({State.STARTING}),
    Work.KILL: frozenset({State.FENCING, State.STOPPING}),
    Work.BACKOFF: frozenset({State.BACKOFF}),
}


@dataclass(frozen=True, slots=True)
class Prepare:
    """Find out what to start, anew if that is being done already; answer Prepared or PrepareFailed."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the child; answer Spawned and later Exited, or SpawnFailed alone."""

    launch: Launch


@dataclass(frozen=True, slots=True)
class AwaitReady:
    """Wait until the child does its job; answer BecameReady or ReadinessFailed."""

    launch: Launch


@dataclass(frozen=True, slots=True)
class Watch:
    """Look after the ready child; answer FaultFound when something is wrong."""

    launch: Launch


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send SIGTERM to the process alone: an engine that is told twice aborts."""


@dataclass(frozen=True, slots=True)
class KillGroup:
    """Send SIGKILL to the whole process group."""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Answer TimerFired after the delay; a timer of the same name is replaced."""

    timer: Work
    delay_s: float


Action = Prepare | Spawn | AwaitReady | Watch | Terminate | KillGroup | SetTimer

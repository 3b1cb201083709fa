"""What has happened to a child, or was asked of it: the input of the life cycle, in the past tense."""

from dataclasses import dataclass

from rpc_wrapper.supervisor.actions import Work
from rpc_wrapper.supervisor.launch import Launch
from rpc_wrapper.supervisor.status import Exit, Fault


@dataclass(frozen=True, slots=True)
class StartRequested:
    """Somebody wants the child to run from now on."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants the child gone, in an orderly way."""


@dataclass(frozen=True, slots=True)
class KillRequested:
    """Somebody wants the child gone now: the second Ctrl-C."""


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """The world has changed (a new plan, another backend): prepare and start again; no setback."""

    reason: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything the child needs is there."""

    launch: Launch


@dataclass(frozen=True, slots=True)
class PrepareFailed:
    """What the child needs is not there; ``permanent`` when trying again cannot help."""

    text: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Spawned:
    """The process exists; its program may not have begun."""

    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The operating system refused to make the process."""

    text: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class BecameReady:
    """The child does its job; how long its steps took, as :class:`Readiness` says."""

    detail: str
    load_s: float | None = None
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class ReadinessFailed:
    """The child lives, but will not become ready."""

    reason: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class FaultFound:
    """Somebody saw that the child does not do its job any more."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Exited:
    """The child ended, was reaped, and nothing of its process group is left."""

    exit: Exit


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A delay that was asked for is over."""

    timer: Work


Event = (
    StartRequested
    | StopRequested
    | KillRequested
    | RestartRequested
    | Prepared
    | PrepareFailed
    | Spawned
    | SpawnFailed
    | BecameReady
    | ReadinessFailed
    | FaultFound
    | Exited
    | TimerFired
)

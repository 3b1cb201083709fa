"""What there is to know about a child: immutable values, rendered by the gateway, the command line and the logs."""

import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a child is in its life; design.md draws it."""

    STOPPED = "stopped"
    PREPARING = "preparing"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"  # being taken down because somebody asked
    FENCING = "fencing"  # being taken down because something is wrong
    BACKOFF = "backoff"
    FAILED = "failed"  # given up before it was ever ready

    @property
    def is_final(self) -> bool:
        """Tell whether nothing will happen any more unless somebody asks."""
        return self in (State.STOPPED, State.FAILED)


class FaultKind(StrEnum):
    """How somebody came to know that a child does not do its job."""

    EXIT = "exit"  # another process it depends on has ended
    CONNECTION = "connection"  # a socket broke
    SILENCE = "silence"
    HEARTBEAT = "heartbeat"
    PLAN_MISMATCH = "plan_mismatch"
    CANARY = "canary"
    REQUESTED = "requested"
    INTERNAL = "internal"  # the watch itself failed: a bug


@dataclass(frozen=True, slots=True)
class Fault:
    """Something is wrong with a running child.

    ``text`` is a sentence; ``backend`` names the culprit when it is known; ``phase`` is what the child was doing (load,
    prefill, decode, idle); ``detected_after_s`` is how long it took to notice, ``deadline_s`` what was allowed.
    """

    kind: FaultKind
    text: str
    backend: str | None = None
    phase: str = ""
    detected_after_s: float | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a child ended: a word, what to do about it, whether trying again cannot help, and who is to blame."""

    failure: str = "unknown"
    advice: str = ""
    permanent: bool = False
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """A child does its job: a word about it for the status, and how long each step took, where there are any."""

    detail: str = "ready"
    load_s: float | None = None
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a child came back, in seconds: from the first fault (or request) to readiness, and what that was spent on.

    ``cause`` is a kind of fault, or ``requested``. ``detected_after_s`` is the silence before, not part of the total.
    ``fence_s`` and ``wait_s`` (backoff, backends, plan) are sums over ``attempts``; the others are of the last one.
    """

    cause: str
    backend: str | None
    attempts: int
    fence_s: float
    wait_s: float
    total_s: float
    detected_after_s: float | None = None
    load_s: float | None = None
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended; ``returncode`` is negative for a signal, ``last_lines`` are its last words."""

    returncode: int
    diagnosis: Diagnosis = Diagnosis()
    last_lines: tuple[str, ...] = ()

    @property
    def is_orderly(self) -> bool:
        """Tell whether it ended as a child does that we took down."""
        return self.returncode in (0, -signal.SIGTERM, -signal.SIGKILL)

    def __str__(self) -> str:
        known = self.diagnosis.failure not in ("", "unknown")
        text = describe_returncode(self.returncode) + (f" ({self.diagnosis.failure})" if known else "")
        explains = self.diagnosis.advice and (known or not self.is_orderly)
        return f"{text}: {self.diagnosis.advice}" if explains else text


def describe_returncode(returncode: int) -> str:
    """Put a return code into words; 128 + n is how shells and container engines report signal n."""
    if returncode < 0:
        return f"killed by {_signal_name(-returncode)}"
    if 128 < returncode < 128 + signal.NSIG:
        return f"exit code {returncode}, which means {_signal_name(returncode - 128)}"
    return f"exit code {returncode}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One entry of a child's history: a state it entered, a fault or a note; when, why, and the event that caused it.

    ``number`` counts without gaps, so that a slow reader can see what it has missed; ``at`` is in Unix seconds.
    ``recovery`` stands with the readiness that ends one.
    """

    number: int
    at: float
    kind: str
    text: str
    cause: str
    fault: Fault | None = None
    recovery: Recovery | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One child at one moment, secrets already removed; times are Unix seconds.

    ``generation`` counts its starts, ``restarts`` those after the first since somebody asked it to run.
    """

    name: str
    state: State
    since: float
    reason: str
    progress: str = ""
    pid: int | None = None
    argv: tuple[str, ...] = ()
    generation: int = 0
    restarts: int = 0
    ever_ready: bool = False
    last_exit: Exit | None = None
    last_lines: tuple[str, ...] = ()
    history: tuple[Occurrence, ...] = ()

    def to_json(self) -> Mapping[str, object]:
        """Return plain values that any JSON encoder takes; how it ended is there in words, too."""
        values = asdict(self)
        if self.last_exit is not None:
            values["last_exit"]["text"] = str(self.last_exit)
        return values

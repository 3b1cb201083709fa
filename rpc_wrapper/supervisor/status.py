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
    prefill, decode, idle); ``detected_after_s`` is how long it took to notice.
    """

    kind: FaultKind
    text: str
    backend: str | None = None
    phase: str = ""
    detected_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a child ended: a word, what to do about it, and whether trying again cannot help."""

    failure: str = "unknown"
    advice: str = ""
    permanent: bool = False


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
        return f"killed by {_signal_name(-returncode)}{_hint(-returncode)}"
    if 128 < returncode < 128 + signal.NSIG:
        return f"exit code {returncode}, which means {_signal_name(returncode - 128)}{_hint(returncode - 128)}"
    return f"exit code {returncode}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _hint(number: int) -> str:
    return " (often: the system was out of memory)" if number == signal.SIGKILL else ""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One entry of a child's history: a state it entered, or a fault; when, why, and the event that caused it.

    ``number`` counts without gaps, so that a slow reader can see what it has missed; ``at`` is in Unix seconds.
    """

    number: int
    at: float
    kind: str
    text: str
    cause: str
    fault: Fault | None = None


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

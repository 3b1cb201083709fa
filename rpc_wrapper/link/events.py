"""What a link or a gate tells its owner, in the past tense; ``str()`` of each is a sentence for a person."""

from dataclasses import dataclass

from rpc_wrapper.devices import MIB, Endpoint


@dataclass(frozen=True, slots=True)
class Silence:
    """A backend owes an answer, or takes no more bytes, for longer than its deadline."""

    endpoint: Endpoint
    command: str
    waited_s: float
    deadline_s: float

    def __str__(self) -> str:
        return (
            f"{self.endpoint} has been silent for {self.waited_s:.1f} s on {self.command},"
            f" {self.deadline_s:.1f} s is the most it may take"
        )


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection to a backend broke while the engine was using it, or could not be made."""

    endpoint: Endpoint
    reason: str

    def __str__(self) -> str:
        return f"{self.endpoint} was lost: {self.reason}"


@dataclass(frozen=True, slots=True)
class Refused:
    """A buffer beyond the backend's budget was refused on the wire."""

    endpoint: Endpoint
    device: int
    size_bytes: int
    left_bytes: int

    def __str__(self) -> str:
        short_mib = -(-(self.size_bytes - self.left_bytes) // MIB)
        return (
            f"{self.endpoint} device {self.device} was asked for {self.size_bytes / MIB:.1f} MiB and has"
            f" {self.left_bytes / MIB:.1f} MiB of its budget left: give it {short_mib} MiB more (APP_MEM),"
            " or place less on it"
        )


LinkEvent = Silence | Lost | Refused

"""What a probe found out about one endpoint."""

from dataclasses import dataclass
from enum import StrEnum

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.rpc.commands import ProtocolVersion


class ProbeState(StrEnum):
    """The six answers; each calls for something else."""

    OK = "ok"
    BUSY = "busy"  # connected, then silent: it serves another client, or is frozen
    DOWN = "down"  # refused, unreachable, no answer to the SYN, or gone in mid-exchange
    NOT_RPC = "not an RPC server"
    WRONG_VERSION = "wrong version"
    UNRESOLVABLE = "unresolvable"

    @property
    def is_alive(self) -> bool:
        """Tell whether a usable worker is there, free or not."""
        return self in (ProbeState.OK, ProbeState.BUSY)

    @property
    def is_final(self) -> bool:
        """Tell whether asking again later is pointless: what listens there is the wrong program."""
        return self in (ProbeState.NOT_RPC, ProbeState.WRONG_VERSION)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """One device's memory as the worker reports it."""

    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One endpoint's answer; ``detail`` is a sentence, ``rtt_s`` the shortest round trip."""

    endpoint: Endpoint
    state: ProbeState
    version: ProtocolVersion | None = None
    devices: tuple[DeviceMemory, ...] = ()
    rtt_s: float | None = None
    detail: str = ""

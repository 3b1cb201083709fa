"""What a supervised program's caller knows about it, and the runner does not."""

from collections.abc import Callable, Sequence
from typing import Protocol

from rpc_wrapper.errors import RPCWrapperError
from rpc_wrapper.supervisor.launch import Launch
from rpc_wrapper.supervisor.process import Child
from rpc_wrapper.supervisor.status import Diagnosis, Fault, Readiness

Report = Callable[[str], None]


class PermanentFailure(RPCWrapperError):
    """Wrap an error that trying again cannot mend, when its class does not say so already."""

    def __init__(self, error: RPCWrapperError) -> None:
        super().__init__(str(error))
        self.error = error


class FaultSeen(RPCWrapperError):
    """Carry a fault that was found while the child was still on its way to readiness."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class Effects(Protocol):
    """The four moments at which the runner asks its caller; ``report`` publishes a line of progress.

    The three that wait are cancelled when their state ends: they must let go at once and hold nothing back. An
    :class:`RPCWrapperError` is a setback with its text as the reason; any other exception is a bug, logged as such
    and treated as a setback all the same.
    """

    async def prepare(self, report: Report) -> Launch:
        """Gather what the child needs, however long it takes.

        ConfigError, EngineError, GGUFError and PermanentFailure end a start that was never ready; see RestartPolicy.
        """
        ...

    async def await_ready(self, launch: Launch, child: Child, report: Report) -> Readiness:
        """Return once the child does its job; raise when it never will, FaultSeen when somebody is to blame."""
        ...

    async def watch(self, launch: Launch, child: Child) -> Fault:
        """Return as soon as something is wrong with the ready child; its exit is noticed without this."""
        ...

    def hear(self, launch: Launch, line: str) -> None:
        """Take one line the child printed; it must not block."""
        ...

    def classify(self, lines: Sequence[str], returncode: int) -> Diagnosis:
        """Say why a child ended, from its last lines and its return code."""
        ...

"""Time the answers of one connection: a stage is computing and network, a round trip network alone. No I/O."""

from rpc_wrapper.link.meter import Meter
from rpc_wrapper.rpc.commands import Command

_ROUND_TRIPS = frozenset(
    {Command.HELLO, Command.DEVICE_COUNT, Command.GET_ALIGNMENT, Command.GET_MAX_SIZE, Command.BUFFER_GET_BASE}
)


class Stages:
    """Count into a meter how long the engine waited."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._graph_at: float | None = None

    def graph(self, now: float) -> None:
        """Start a stage, unless one runs."""
        self._graph_at = self._graph_at or now

    def answered(self, command: Command, asked_at: float, now: float) -> None:
        """Take the answer to a command."""
        self._meter.answered(command, now - asked_at)
        if self._graph_at is not None:
            self._meter.computed(now - self._graph_at, now)
            self._graph_at = None
        elif command in _ROUND_TRIPS:
            self._meter.round_trip(now - asked_at)

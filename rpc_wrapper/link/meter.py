"""Count what goes over one link, and how long the engine waited for the backend.

The wait between a graph and the next answer is the backend's *stage*: its computing and the network's round trip.
With ``rtt_s`` beside it one sees which of the two makes a token slow.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rpc_wrapper.rpc.commands import Command

WINDOW_S = 10
_SMOOTHING = 1 / 8  # of the round trip, as RFC 6298 smooths TCP's


@dataclass(frozen=True, slots=True)
class CommandTotals:
    """One command's totals; ``waited_s`` is the time from the request to the head of its answer."""

    count: int = 0
    size_bytes: int = 0
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MeterSnapshot:
    """One link at one moment; ``..._per_s`` and ``recent_...`` cover the last ten seconds."""

    bytes_to_backend: int
    bytes_from_backend: int
    frames_to_backend: int
    frames_from_backend: int
    bytes_to_backend_per_s: float
    bytes_from_backend_per_s: float
    commands: Mapping[str, CommandTotals]
    stages: int
    stage_waited_s: float
    recent_stages: int
    recent_stage_s: float | None
    weights_pushed_bytes: int
    cacheable_pushed_bytes: int
    weights_found_bytes: int
    rtt_s: float | None
    connections: int
    allocated_bytes: Mapping[int, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; per-device keys become strings, as JSON has them."""
        plain = asdict(self)
        plain["allocated_bytes"] = {str(device): size for device, size in self.allocated_bytes.items()}
        return plain


class Window:
    """Sum several quantities over the last :data:`WINDOW_S` seconds, one bucket per second."""

    def __init__(self, quantities: int) -> None:
        self._quantities = quantities
        self._buckets: deque[tuple[int, list[float]]] = deque()

    def add(self, quantity: int, amount: float, now: float) -> None:
        """Add to one quantity; ``now`` never goes back."""
        second = int(now)
        if not self._buckets or self._buckets[-1][0] != second:
            self._buckets.append((second, [0.0] * self._quantities))
            self._drop_old(second)
        self._buckets[-1][1][quantity] += amount

    def totals(self, now: float) -> list[float]:
        """Return each quantity's sum."""
        self._drop_old(int(now))
        return [sum(bucket[quantity] for _, bucket in self._buckets) for quantity in range(self._quantities)]

    def _drop_old(self, second: int) -> None:
        while self._buckets and self._buckets[0][0] <= second - WINDOW_S:
            self._buckets.popleft()


_TO_BACKEND, _FROM_BACKEND, _STAGES, _STAGE_S = range(4)


class Meter:
    """Count one link over all its connections."""

    def __init__(self) -> None:
        self.connections = 0
        self._bytes = [0, 0]
        self._frames = [0, 0]
        self._requests = [0] * len(Command)
        self._sizes = [0] * len(Command)
        self._waited_s = [0.0] * len(Command)
        self._window = Window(4)
        self._stages = 0
        self._stage_s = 0.0
        self._pushed_bytes = 0
        self._cacheable_bytes = 0
        self._found_bytes = 0
        self._rtt_s: float | None = None

    def moved(self, to_backend: int, from_backend: int, now: float) -> None:
        """Count bytes as they arrive at the link, heads included."""
        self._bytes[_TO_BACKEND] += to_backend
        self._bytes[_FROM_BACKEND] += from_backend
        if to_backend:
            self._window.add(_TO_BACKEND, to_backend, now)
        if from_backend:
            self._window.add(_FROM_BACKEND, from_backend, now)

    def requested(self, command: Command, size: int) -> None:
        """Count a request and its payload."""
        self._frames[_TO_BACKEND] += 1
        self._requests[command] += 1
        self._sizes[command] += size

    def answered(self, command: Command, waited_s: float) -> None:
        """Count an answer."""
        self._frames[_FROM_BACKEND] += 1
        self._waited_s[command] += waited_s

    def round_trip(self, waited_s: float) -> None:
        """Take one small command's wait, with no computing in it, as a sample of the round trip."""
        if self._rtt_s is None:
            self._rtt_s = waited_s
        else:
            self._rtt_s += _SMOOTHING * (waited_s - self._rtt_s)

    def computed(self, waited_s: float, now: float) -> None:
        """Count one stage: from a graph to the next answer."""
        self._stages += 1
        self._stage_s += waited_s
        self._window.add(_STAGES, 1, now)
        self._window.add(_STAGE_S, waited_s, now)

    def pushed(self, size_bytes: int, *, is_cacheable: bool) -> None:
        """Count weights that went over the wire; cacheable ones the worker had been asked for and did not have."""
        self._pushed_bytes += size_bytes
        if is_cacheable:
            self._cacheable_bytes += size_bytes

    def found(self, size_bytes: int) -> None:
        """Count weights the worker had in its cache."""
        self._found_bytes += size_bytes

    def snapshot(self, now: float, allocated_bytes: Mapping[int, int] | None = None) -> MeterSnapshot:
        """Return all figures as a value."""
        recent = self._window.totals(now)
        return MeterSnapshot(
            bytes_to_backend=self._bytes[_TO_BACKEND],
            bytes_from_backend=self._bytes[_FROM_BACKEND],
            frames_to_backend=self._frames[_TO_BACKEND],
            frames_from_backend=self._frames[_FROM_BACKEND],
            bytes_to_backend_per_s=recent[_TO_BACKEND] / WINDOW_S,
            bytes_from_backend_per_s=recent[_FROM_BACKEND] / WINDOW_S,
            commands=self._commands(),
            stages=self._stages,
            stage_waited_s=self._stage_s,
            recent_stages=int(recent[_STAGES]),
            recent_stage_s=recent[_STAGE_S] / recent[_STAGES] if recent[_STAGES] else None,
            weights_pushed_bytes=self._pushed_bytes,
            cacheable_pushed_bytes=self._cacheable_bytes,
            weights_found_bytes=self._found_bytes,
            rtt_s=self._rtt_s,
            connections=self.connections,
            allocated_bytes=dict(allocated_bytes or {}),
        )

    def _commands(self) -> dict[str, CommandTotals]:
        return {
            command.name: CommandTotals(self._requests[command], self._sizes[command], self._waited_s[command])
            for command in Command
            if self._requests[command]
        }

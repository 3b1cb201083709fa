"""How far a load is, when it will be done, and when it has stood still for too long. Pure.

A load shows itself by the bytes on its links and by the lines of its log. What it may keep to itself between two signs
(reading from a slow disk, hashing, filling its own devices) grows with what is left to load: the bytes left over the
speed measured so far are the most that one silence may take, on top of a floor. After the load it reserves memory and
warms up, with nothing to be seen while the first graph is computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rpc_wrapper.devices import MIB
from rpc_wrapper.supervisor import Fault, FaultKind

ASSUMED_BYTES_PER_S = 20e6  # before anything was measured: a slow disk, for the server's own devices show nothing
SLOWEST_BYTES_PER_S = 1e6


@dataclass(frozen=True, slots=True)
class LoadSigns:
    """What a load has shown so far: per backend the bytes that crossed its link and the weights it holds, log lines.

    ``is_over`` tells that all weights are where they belong, and what follows is the warming up.
    """

    moved_bytes: Mapping[str, int]
    weights_bytes: Mapping[str, int]
    n_lines: int
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """How long a load may stand still at least, and then the warming up, in seconds."""

    floor_s: float = 120.0
    warm_up_s: float = 300.0


class LoadWatch:
    """One load; ``expected_bytes`` are each backend's weights, ``file_bytes`` all that is to be read."""

    def __init__(self, expected_bytes: Mapping[str, int], file_bytes: int, limits: LoadLimits, now: float) -> None:
        self._expected = expected_bytes
        self._file_bytes = file_bytes
        self._limits = limits
        self._began = self._moved_at = now
        self._signs: LoadSigns | None = None
        self._last_moved: str | None = None

    def observe(self, signs: LoadSigns, now: float) -> None:
        """Take note of the signs of this moment."""
        before, self._signs = self._signs, signs
        if before is None or signs == before:
            return
        self._moved_at = now
        moved = [name for name, size in signs.moved_bytes.items() if size != before.moved_bytes.get(name, 0)]
        self._last_moved = moved[-1] if moved else self._last_moved

    @property
    def loaded_bytes(self) -> int:
        """Return the weights that the backends hold by now."""
        return sum(min(self._held(name), size) for name, size in self._expected.items())

    @property
    def total_bytes(self) -> int:
        """Return the weights that the backends are to hold."""
        return sum(self._expected.values())

    def left_s(self) -> float | None:
        """Return how long the links will still be loaded at the speed so far; None before that can be told."""
        if not self.loaded_bytes:
            return None
        return (self.total_bytes - self.loaded_bytes) / self._bytes_per_s()

    def deadline_s(self) -> float:
        """Return how long it may stand still."""
        if self._signs is not None and self._signs.is_over:
            return max(self._limits.floor_s, self._limits.warm_up_s)
        return self._limits.floor_s + max(self._file_bytes - self.loaded_bytes, 0) / self._bytes_per_s()

    def fault(self, now: float) -> Fault | None:
        """Return the silence when it has lasted too long, with the backend that is the likeliest culprit."""
        waited_s, deadline_s = now - self._moved_at, self.deadline_s()
        if waited_s <= deadline_s:
            return None
        backend = self._suspect()
        who = f"{backend} has {self._held(backend) // MIB} of {self._expected[backend] // MIB} MiB" if backend else ""
        text = (
            f"silent while loading: no byte on any link and no line of the log for {waited_s:.1f} s,"
            f" {deadline_s:.1f} s is the most it may take; {who or 'every backend has what it should hold'}"
        )
        return Fault(FaultKind.SILENCE, text, backend, "load", waited_s, deadline_s)

    def describe(self) -> str:
        """Say how far it is, for people; nothing where nothing goes over links."""
        if not self.total_bytes:
            return ""
        left_s = self.left_s()
        left = f", about {left_s:.0f} s left" if left_s else ""
        return f"{self.loaded_bytes // MIB} of {self.total_bytes // MIB} MiB on the backends{left}"

    def _suspect(self) -> str | None:
        """Return the backend that is not done, by preference the one that moved last."""
        unfinished = [name for name, size in self._expected.items() if self._held(name) < size]
        return self._last_moved if self._last_moved in unfinished else next(iter(unfinished), None)

    def _held(self, name: str) -> int:
        return self._signs.weights_bytes.get(name, 0) if self._signs is not None else 0

    def _bytes_per_s(self) -> float:
        if not self.loaded_bytes or self._moved_at <= self._began:
            return ASSUMED_BYTES_PER_S
        return max(self.loaded_bytes / (self._moved_at - self._began), SLOWEST_BYTES_PER_S)

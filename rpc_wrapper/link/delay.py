"""Simulate a slower network: latency per message, as a delay line, and a bandwidth limit.

A message is one RPC frame. Each draws its own latency from a seeded generator, so that the same traffic meets the same
network again; order is kept, as TCP keeps it. Latency alone never limits throughput: any number of messages is under
way at once. A bandwidth limit does, and its backlog is what the link must hold back.
"""

import random
from dataclasses import dataclass

from rpc_wrapper.link.frames import Frame, FrameReader, Head


@dataclass(frozen=True, slots=True)
class Network:
    """What to simulate; each direction has its own line of it.

    ``mbit_per_s`` is in units of 10^6 bits; None is unlimited.
    """

    latency_min_s: float = 0.0
    latency_max_s: float = 0.0
    mbit_per_s: float | None = None
    seed: int = 0

    @property
    def is_ideal(self) -> bool:
        """Tell whether there is nothing to simulate."""
        return self.latency_max_s <= 0 and self.mbit_per_s is None

    def to_json(self) -> dict[str, float | None] | None:
        """Return plain values, None when there is nothing to simulate."""
        if self.is_ideal:
            return None
        return {
            "latency_min_ms": round(self.latency_min_s * 1000, 3),
            "latency_max_ms": round(self.latency_max_s * 1000, 3),
            "mbit_per_s": self.mbit_per_s,
        }


class DelayLine:
    """One direction of a simulated network; times are seconds of any clock that never goes back.

    ``head_size`` is 9 for requests and 8 for replies: the line sees where messages begin.
    """

    def __init__(self, network: Network, head_size: int) -> None:
        self._network = network
        self._random = random.Random(f"{network.seed}/{head_size}")
        self._reader = FrameReader(head_size, _read_head)
        self._latency_s = network.latency_min_s
        self._sent_at = 0.0  # when the last byte has left the sender
        self._arrives_at = 0.0

    def send(self, data: bytes | memoryview, now: float) -> float:
        """Put bytes on the line; return when they arrive, never before those sent earlier."""
        drawn = [self._draw() for piece in self._reader.feed(data) if isinstance(piece, Frame)]
        if drawn:
            self._latency_s = max(drawn)
        self._sent_at = max(self._sent_at, now) + self._transmission_s(len(data))
        self._arrives_at = max(self._arrives_at, self._sent_at + self._latency_s)
        return self._arrives_at

    def backlog_s(self, now: float) -> float:
        """Return how long it takes until the bandwidth has taken all bytes sent so far."""
        return max(self._sent_at - now, 0.0)

    def _draw(self) -> float:
        return self._random.uniform(self._network.latency_min_s, self._network.latency_max_s)

    def _transmission_s(self, size_bytes: int) -> float:
        mbit_per_s = self._network.mbit_per_s
        return size_bytes * 8 / (mbit_per_s * 1e6) if mbit_per_s else 0.0


def _read_head(head: bytes) -> Head:
    return Head(head[0], int.from_bytes(head[-8:], "little"))

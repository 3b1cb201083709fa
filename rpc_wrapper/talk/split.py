"""Say of each token how long the server itself took, and how long it waited for network and backends.

The links count how long llama-server waited for each backend's stages. Between two looks at these counters some
tokens came; what was waited meanwhile is shared out over them by how long each took, so sums are exact even where
tokens come faster than anyone can look.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of the answer: its text, how long it took in all, and how much of that was waiting for backends."""

    number: int
    text: str
    total_s: float
    remote_s: float

    @property
    def local_s(self) -> float:
        """Return the server's own part."""
        return self.total_s - self.remote_s


class Splitter:
    """Split the time of an answer that began at ``began_s``; ``waited_s`` is each link's counter at that moment.

    Stages follow one another when blocks are split, and run side by side when tensors are: then the slowest link
    counts alone.
    """

    def __init__(self, began_s: float, waited_s: Mapping[str, float], *, side_by_side: bool = False) -> None:
        self._last_s = began_s
        self._waited_s = dict(waited_s)
        self._side_by_side = side_by_side
        self._pending: list[tuple[str, float]] = []
        self._count = 0

    @property
    def has_pending(self) -> bool:
        """Tell whether tokens came since the last look at the counters."""
        return bool(self._pending)

    def came(self, text: str, at_s: float) -> None:
        """Note a token."""
        self._pending.append((text, at_s - self._last_s))
        self._last_s = at_s

    def looked(self, waited_s: Mapping[str, float]) -> list[Token]:
        """Take the counters as they are now; return the tokens since the last look, with their times split."""
        remote_s = self._waited_since(waited_s)
        total_s = sum(took_s for _, took_s in self._pending)
        share = min(remote_s / total_s, 1.0) if total_s > 0 else 0.0
        tokens = [
            Token(self._count + number, text, took_s, took_s * share)
            for number, (text, took_s) in enumerate(self._pending, 1)
        ]
        self._count += len(tokens)
        self._pending.clear()
        return tokens

    def _waited_since(self, waited_s: Mapping[str, float]) -> float:
        """Return what was waited since the last look; a counter that went back belongs to a new link."""
        since = [
            now - before if now >= before else now
            for name, now in waited_s.items()
            for before in [self._waited_s.get(name, 0.0)]
        ]
        self._waited_s = dict(waited_s)
        return max(since, default=0.0) if self._side_by_side else sum(since)

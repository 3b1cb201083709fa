"""Whose worker is it now? One llama-server's at a time, known by its address.

A llama-server opens a dozen short connections while it starts before the one that stays. The lease outlives the pauses
between them, so that nobody slips in. No I/O; times are seconds of any clock that never goes back.
"""


class Lease:
    """Held by one peer from its first connection until ``keep_s`` after its last."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._holder: str | None = None
        self._connections = 0
        self._taken_at = 0.0
        self._left_at = 0.0

    def holder(self, now: float) -> str | None:
        """Return who holds it, None when it is free."""
        is_over = not self._connections and now - self._left_at >= self._keep_s
        return None if is_over else self._holder

    def held_s(self, now: float) -> float:
        """Return for how long it has been held; 0 when it is free."""
        return now - self._taken_at if self.holder(now) is not None else 0.0

    def take(self, peer: str, now: float) -> bool:
        """Count a connection of ``peer``; False, and nothing counted, when another holds the lease."""
        holder = self.holder(now)
        if holder not in (None, peer):
            return False
        if holder is None:
            self._holder, self._taken_at = peer, now
        self._connections += 1
        return True

    def leave(self, now: float) -> None:
        """Count one connection of the holder less."""
        self._connections -= 1
        self._left_at = now

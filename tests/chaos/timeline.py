"""Where the time of a recovery went, from the history that `/cluster` tells: no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

STATES = frozenset({"stopped", "preparing", "starting", "ready", "stopping", "fencing", "backoff", "failed"})


@dataclass(frozen=True, slots=True)
class Timeline:
    """Seconds of one recovery.

    ``detect`` from the strike until the engine was given up, ``fence`` until it was gone, ``wait`` for the pause, the
    backends and the plan, ``load`` until a token came out. ``streams`` are, of every stream that was cut, the seconds
    from the strike until its client read on.
    """

    detect_s: float
    fence_s: float
    wait_s: float
    load_s: float
    streams_s: tuple[float, ...] = ()
    is_planned: bool = False  # somebody asked for another start: a backend came back, or an admin wished it

    def __str__(self) -> str:
        spans = (
            f"detect {self.detect_s:.2f}, fence {self.fence_s:.2f}, wait {self.wait_s:.2f}, load {self.load_s:.2f} s"
        )
        if not self.streams_s:
            return spans
        first, last = min(self.streams_s), max(self.streams_s)
        return f"{spans}; of {len(self.streams_s)} streams the first went on after {first:.2f} s, the last {last:.2f} s"

    @property
    def total_s(self) -> float:
        """Return how long the engine was away, the time until anybody knew included."""
        return self.detect_s + self.fence_s + self.wait_s + self.load_s


def timeline(
    history: Sequence[Mapping[str, Any]], struck_at: float, streams_s: Sequence[float] = ()
) -> Timeline | None:
    """Return the recovery that followed a strike (Unix seconds); None when the engine stayed."""
    entries = [entry for entry in history if entry["kind"] in STATES and entry["at"] >= struck_at]
    states = [(entry["at"], entry["kind"]) for entry in entries]
    if not states or states[-1][1] != "ready":
        return None
    spent = dict.fromkeys(STATES, 0.0)
    spent["ready"] = states[0][0] - struck_at
    for (since, state), (until, _) in pairwise(states):
        spent[state] += until - since
    return Timeline(
        detect_s=spent["ready"],
        fence_s=spent["fencing"] + spent["stopping"],
        wait_s=spent["backoff"] + spent["preparing"],
        load_s=spent["starting"],
        streams_s=tuple(streams_s),
        is_planned=entries[0].get("cause") == "RestartRequested",
    )

"""The cluster's changes as server-sent events, kept for a while: written once, read by any number of watchers. Pure.

A watcher is nothing but the id of the last event it has. Whoever lags behind what is kept gets a whole snapshot, so a
slow one costs no memory. Ids are ``<run>-<number>``: an id of another run of the program is unknown here.
"""

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

KEPT = 256
PING = b": nothing new\n\n"

Snapshot = Mapping[str, Any]


def difference(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """Return the sections of `after` that changed; None for one that is gone, of the history only what is new."""
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    gone = {name: None for name in before if name not in after}
    if "history" in changed:
        newest = max((entry["number"] for entry in before.get("history", ())), default=-1)
        changed["history"] = [entry for entry in after["history"] if entry["number"] > newest]
    return changed | gone


class Tape:
    """The newest snapshot, and the changes that led to it."""

    def __init__(self, run: str, kept: int = KEPT) -> None:
        self._run = run
        self._snapshot: Snapshot = {}
        self._number = 0
        self._changes: deque[bytes] = deque(maxlen=kept)
        self._whole: bytes | None = None  # the newest snapshot as an event, once somebody has needed it

    @property
    def newest(self) -> str:
        """Return the id of the newest event."""
        return f"{self._run}-{self._number}"

    def record(self, snapshot: Snapshot) -> bool:
        """Take in what is known now; tell whether anything changed."""
        changed = difference(self._snapshot, snapshot)
        if not changed:
            return False
        self._snapshot, self._whole = snapshot, None
        self._number += 1
        self._changes.append(_event("change", self.newest, changed))
        return True

    def since(self, seen: str | None) -> bytes:
        """Return what brings a watcher up to date who has seen an event, or none; empty when it is."""
        missed = self._missed(seen)
        if missed is None:
            self._whole = self._whole or _event("snapshot", self.newest, self._snapshot)
            return self._whole
        return b"".join(self._changes[index] for index in range(len(self._changes) - missed, len(self._changes)))

    def _missed(self, seen: str | None) -> int | None:
        """Return how many changes a watcher has missed; None when they are not known or no longer kept."""
        run, _, number = (seen or "").rpartition("-")
        if run != self._run or not (number.isascii() and number.isdigit()):
            return None
        missed = self._number - int(number)
        return missed if 0 <= missed <= len(self._changes) else None


def _event(name: str, event_id: str, value: Snapshot) -> bytes:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"id: {event_id}\nevent: {name}\ndata: {data}\n\n".encode()

"""What is remembered of the requests inside: how they were asked and what their clients already have. No I/O."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from rpc_wrapper.gateway.journal.config import ResumeConfig
from rpc_wrapper.gateway.journal.reading import Dialect, Nature, Reading

EVENT_BYTES = 200  # what Python needs to hold one event, beside its bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it goes to the engine every time; ``value`` is its body parsed, None where it is not JSON."""

    dialect: Dialect
    body: bytes = field(repr=False)
    value: dict[str, Any] | None = field(default=None, repr=False)
    hides_progress: bool = False  # we asked for it, the client did not
    hides_verbose: bool = False

    @property
    def shows_signs(self) -> bool:
        """Tell whether its answer comes token by token, so that silence means something."""
        return self.value is not None and self.value.get("stream") is True and self.dialect is not Dialect.OTHER

    @property
    def n_prompt_at_most(self) -> int:
        """Return a guess of the prompt's tokens that is seldom too low: two bytes each."""
        return len(self.body) // 2


@dataclass(slots=True)
class Delivered:
    """What the client of a stream has: events apart from names, ids of tokens, and what they were called."""

    events: dict[int | None, list[tuple[bytes, tuple[str, ...]]]] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)
    n_held_back: int = 0  # ids at the end whose text has not been shown
    has_gap: bool = False  # a token was generated whose id was never shown
    n_texts: int = 0
    created: int | None = None
    finished: set[int | None] = field(default_factory=set)
    is_done: bool = False
    decode_s: float = 0.0

    @property
    def n_tokens(self) -> int:
        """Return how many tokens the client has, as far as the stream tells."""
        return len(self.shown_ids) if self.ids else self.n_texts

    @property
    def shown_ids(self) -> list[int]:
        """Return the ids whose text the client has: after each of them the text is whole characters."""
        return self.ids[: len(self.ids) - self.n_held_back]

    def add(self, reading: Reading) -> None:
        """Take note of one event that goes to the client."""
        self.events.setdefault(reading.key, []).append((reading.essence, reading.names))
        self._add_token(reading)
        self.n_texts += bool(reading.text)
        value = reading.event.value if reading.event else None
        if self.created is None and value is not None:
            self.created = value.get("created")
        if reading.nature is Nature.LAST:
            self.finished.add(reading.key)
        self.is_done |= reading.nature in (Nature.DONE, Nature.ERROR)

    def forget_held_back(self) -> list[bytes]:
        """Drop the ids whose text was never shown; return the essence of their events."""
        n_kept = len(self.ids) - self.n_held_back
        dropped = [essence for events in self.events.values() for essence, _ in events[n_kept:]]
        for events in self.events.values():
            del events[n_kept:]
        del self.ids[n_kept:]
        self.n_held_back = 0
        return dropped

    def _add_token(self, reading: Reading) -> None:
        if reading.token is None or reading.nature is not Nature.PART:
            return
        self.ids.append(reading.token)
        self.n_held_back = 0 if reading.text else self.n_held_back + 1
        self.has_gap |= reading.predicted != len(self.ids)


@dataclass(slots=True)
class Entry:
    """One request inside, from its acceptance to its end."""

    request_id: str
    asked: Asked
    delivered: Delivered = field(default_factory=Delivered)
    resumed: int = 0  # how often it went on after a loss
    losses: int = 0  # how many engines it has lost
    attempts: int = 0  # of those, since the client got its last token
    size_bytes: int = 0
    refusals: dict[str, str] = field(default_factory=dict)  # ways to go on that turned out closed, and why
    is_recorded: bool = True  # False once it grew too big to be remembered

    @property
    def is_complete(self) -> bool:
        """Tell whether the client has everything that the engine says at the end."""
        delivered = self.delivered
        if self.asked.dialect is Dialect.NATIVE:  # each completion has its last event, and nothing follows the last
            return delivered.is_done or (bool(delivered.finished) and delivered.finished >= delivered.events.keys())
        return delivered.is_done


class Journal:
    """All entries; an entry lives exactly as long as its request is inside."""

    def __init__(self, config: ResumeConfig) -> None:
        self._config = config
        self._numbers = count()
        self._entries: dict[int, Entry] = {}
        self.size_bytes = 0
        self.resumed_total = 0
        self.ended_total = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Journal {len(self)} entries, {self.size_bytes} bytes, {self.resumed_total} resumed>"

    def to_json(self) -> dict[str, int]:
        """Return its numbers: what it holds now, and what became of requests that lost their engine."""
        return {
            "entries": len(self),
            "bytes": self.size_bytes,
            "resumed_total": self.resumed_total,
            "ended_total": self.ended_total,
        }

    @contextmanager
    def open(self, request_id: str, asked: Asked) -> Iterator[Entry]:
        """Hold an entry while its request is inside."""
        number = next(self._numbers)
        entry = self._entries[number] = Entry(request_id, asked)
        self._grow(entry, len(asked.body))
        try:
            yield entry
        finally:
            del self._entries[number]
            self.size_bytes -= entry.size_bytes

    def record(self, entry: Entry, reading: Reading) -> None:
        """Remember an event that goes to the client; forget the whole delivery when it grows over the bounds."""
        entry.attempts = 0 if reading.text else entry.attempts
        if not entry.is_recorded:
            entry.delivered.n_texts += bool(reading.text)
            entry.delivered.is_done |= reading.nature in (Nature.LAST, Nature.DONE, Nature.ERROR)
            return
        entry.delivered.add(reading)
        self._grow(entry, len(reading.essence) + EVENT_BYTES)

    def _grow(self, entry: Entry, more_bytes: int) -> None:
        entry.size_bytes += more_bytes
        self.size_bytes += more_bytes
        if entry.size_bytes > self._config.max_entry_bytes or self.size_bytes > self._config.max_journal_bytes:
            entry.is_recorded = False
            self.size_bytes -= entry.size_bytes
            entry.size_bytes = 0
            entry.delivered = Delivered(n_texts=entry.delivered.n_texts, is_done=entry.delivered.is_done)

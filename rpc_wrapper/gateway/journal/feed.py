"""One run's stream on its way to the client: what goes through, what is remembered, what is held. Pure."""

import json
from dataclasses import dataclass, field

from rpc_wrapper.gateway.journal.entry import Entry, Journal
from rpc_wrapper.gateway.journal.merge import Difference, Replayed, Whole
from rpc_wrapper.gateway.journal.reading import Nature, Reading, read
from rpc_wrapper.gateway.journal.sse import Splitter

_VERBOSE = b',"__verbose":'  # inside a JSON string its first quote would be escaped: these bytes are always the key


@dataclass(slots=True)
class Signs:
    """What a piece of stream tells a watchdog: tokens that came out, and how far the prompt is."""

    n_tokens: int = 0
    progress: tuple[int, int] | None = None


@dataclass(slots=True)
class Feed:
    """The first run passes its own bytes; a later one is ``replayed`` or not, and mended to be ``whole``.

    ``again`` is the essence of events without text that the client has and a prefilled engine says once more.
    """

    journal: Journal
    entry: Entry
    whole: Whole | None = None
    replayed: Replayed | None = None
    again: list[bytes] = field(default_factory=list)
    _splitter: Splitter = field(default_factory=Splitter)
    _aliases: dict[str, str] = field(default_factory=dict)
    _token_at: float | None = None

    def feed(self, data: bytes, now: float) -> tuple[bytes, Signs]:
        """Return the client's bytes for some of the engine's; raise Difference.

        ``now`` is a monotonic time in seconds. Only whole events get through, so a cut never divides one.
        """
        signs = Signs()
        out = [self._event(raw, now, signs) for raw in self._splitter.feed(data)]
        return b"".join(out), signs

    def rest(self) -> bytes:
        """Return what followed the last whole event, once the stream has ended."""
        return self._splitter.rest()

    def _event(self, raw: bytes, now: float, signs: Signs) -> bytes:
        reading = read(raw, self.entry.asked.dialect)
        match reading.nature:
            case Nature.COMMENT:
                return raw if self.whole is None or self._token_at is not None else b""
            case Nature.PROGRESS:
                signs.progress = reading.progress
                return b"" if self.entry.asked.hides_progress or self.whole else raw
            case Nature.ERROR:
                return self._pass(raw, reading)
        signs.n_tokens += reading.nature is Nature.PART
        if self.replayed is not None and self.replayed.swallows(reading):
            return b""
        if reading.nature is Nature.DONE and self.replayed is not None and self.replayed.is_behind:
            raise Difference("the replay ended before it had said what was delivered")
        return self._deliver(raw, reading, now)

    def _deliver(self, raw: bytes, reading: Reading, now: float) -> bytes:
        if self._token_at is not None:
            self.entry.delivered.decode_s += now - self._token_at
        self._token_at = now
        if self.whole is not None:
            mended = self.whole.mend(reading, self.entry.asked.dialect, self._names(reading))
            if mended is not None:
                raw, reading = mended, read(mended, self.entry.asked.dialect)
        if self.again and self.again.pop(0) == reading.essence:
            self.journal.record(self.entry, reading)
            return b""
        self.again.clear()
        return self._pass(raw, reading)

    def _pass(self, raw: bytes, reading: Reading) -> bytes:
        self.journal.record(self.entry, reading)
        return without_verbose(raw) if self.entry.asked.hides_verbose else raw

    def _names(self, reading: Reading) -> dict[str, str]:
        """Return what this run's ids were called in the first run."""
        if self.replayed is not None:
            return self.replayed.aliases
        known = next(iter(self.entry.delivered.events.get(reading.key, [])), None)
        if known is not None and not self._aliases:
            self._aliases = dict(zip(reading.names, known[1], strict=False))
        return self._aliases


def without_verbose(raw: bytes) -> bytes:
    """Return an event without the field that only we had asked for, every other byte as it was."""
    start = raw.find(_VERBOSE)
    if start < 0:
        return raw
    text = raw[start + len(_VERBOSE) :].decode()
    _, length = json.JSONDecoder().raw_decode(text)
    return raw[:start] + text[length:].encode()

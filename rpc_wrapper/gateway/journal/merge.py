"""Join the stream of a second engine to what the client has of the first: swallow, rename, make the numbers whole."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rpc_wrapper.gateway.journal.entry import Delivered
from rpc_wrapper.gateway.journal.reading import Dialect, Nature, Reading, rename
from rpc_wrapper.gateway.journal.sse import encode


class Difference(Exception):
    """A replay said something else than the client already has."""


class Replayed:
    """Compare a replay with what was delivered, event by event, until it has caught up."""

    def __init__(self, delivered: Delivered) -> None:
        # the lists keep growing with what is delivered from here on: only their beginnings are compared
        self._events = {key: events[:] for key, events in delivered.events.items()}
        self._seen: dict[int | None, int] = defaultdict(int)
        self.aliases: dict[str, str] = {}

    def swallows(self, reading: Reading) -> bool:
        """Tell whether the client has this event already; raise Difference when it has another in its place."""
        events = self._events.get(reading.key, [])
        position = self._seen[reading.key]
        if position >= len(events):
            return False
        essence, names = events[position]
        if reading.essence != essence:
            raise Difference(f"event {position + 1} differs")
        self._seen[reading.key] = position + 1
        self.aliases |= {new: old for new, old in zip(reading.names, names, strict=False) if new != old}
        return True

    @property
    def is_behind(self) -> bool:
        """Tell whether the client still has events that the replay has not said."""
        return any(self._seen[key] < len(events) for key, events in self._events.items())


@dataclass(frozen=True, slots=True)
class Whole:
    """What has to be mended in the events after a cut, so that they speak of the whole request.

    After a prefill ``n_ids`` delivered tokens were part of this run's prompt, ``prompt`` is the text of the real one
    and ``decode_s`` the time those tokens took. After a replay the numbers are whole by themselves.
    """

    resumed: int
    created: int | None
    n_ids: int = 0
    prompt: str | None = None
    decode_s: float = 0.0

    def mend(self, reading: Reading, dialect: Dialect, aliases: Mapping[str, str]) -> bytes | None:
        """Return an event as it goes to the client; None when it goes as it is."""
        event = reading.event
        if event is None or event.value is None or reading.nature is Nature.ERROR:
            return None
        value: dict[str, Any] = rename(event.value, aliases)
        if self.created is not None and "created" in value:
            value["created"] = self.created
        if reading.nature is Nature.LAST or (reading.nature is Nature.DONE and dialect is Dialect.RESPONSES):
            value["resumed"] = self.resumed
        if self.n_ids:
            for part in [value, *([value["__verbose"]] if "__verbose" in value else [])]:
                self._mend_numbers(part)
        return encode(event.name, value)

    def _mend_numbers(self, value: dict[str, Any]) -> None:
        if "tokens_predicted" in value:
            value["tokens_predicted"] += self.n_ids
            value["tokens_evaluated"] -= self.n_ids
        if "prompt" in value and self.prompt is not None:
            value["prompt"] = self.prompt
        if "usage" in value:
            self._mend_usage(value["usage"])
        if "timings" in value:
            self._mend_timings(value["timings"])
        if "generation_settings" in value:
            self._mend_limit(value["generation_settings"])

    def _mend_usage(self, usage: dict[str, Any]) -> None:
        usage["completion_tokens"] += self.n_ids
        usage["prompt_tokens"] -= self.n_ids
        details = usage.get("prompt_tokens_details", {})
        if "cached_tokens" in details:
            details["cached_tokens"] = min(details["cached_tokens"], usage["prompt_tokens"])

    def _mend_timings(self, timings: dict[str, Any]) -> None:
        prompt_n = timings["cache_n"] + timings["prompt_n"] - self.n_ids
        timings["cache_n"] = min(timings["cache_n"], prompt_n)
        timings["prompt_n"] = prompt_n - timings["cache_n"]
        timings["predicted_n"] += self.n_ids
        timings["predicted_ms"] += self.decode_s * 1000
        for phase in ("prompt", "predicted"):
            count, spent_ms = timings[f"{phase}_n"], timings[f"{phase}_ms"]
            timings[f"{phase}_per_token_ms"] = spent_ms / count if count else 0.0
            timings[f"{phase}_per_second"] = 1000 * count / spent_ms if spent_ms else 0.0

    def _mend_limit(self, settings: dict[str, Any]) -> None:
        for name in ("n_predict", "max_tokens"):
            if settings.get(name, -1) >= 0:
                settings[name] += self.n_ids

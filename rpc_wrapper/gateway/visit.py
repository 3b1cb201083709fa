"""One request from its first byte to its last, as metrics and access log tell it: what goes to its client says it all.

Pure; times are monotonic seconds.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rpc_wrapper.gateway import headers

# Keys that llama-server writes at the end of an answer (tools/server/server-task.cpp). Inside a JSON string their
# second quote would be escaped, so these bytes are always the key.
_TIMINGS = b'"timings":'
_USAGE = b'"usage":'
_LONGEST = 640  # of either object: what is kept of a piece, should it end in the middle of one
_DONE = b"data: [DONE]"
_PROBES = frozenset({"/livez", "/readyz", "/healthz", "/health", "/v1/health"})
_ERRORS = (b'data: {"error"', b"event: error\n")


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    OVERLOADED = "overloaded"  # 429
    UNAVAILABLE = "unavailable"  # 503: not ready in time, or draining
    ERROR = "error"
    BROKEN_OFF = "broken_off"  # the answer had begun, and ended with an error event or in the middle
    CLIENT_LEFT = "client_left"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an answer says of itself: tokens of the prompt, cached ones included, and generated ones."""

    prompt: int | None = None
    generated: int | None = None


@dataclass(slots=True)
class Visit:
    """Filled as the request goes through.

    ``on_tokens`` hears of every piece of a stream: its events with tokens, and the seconds since the piece before.

    ``undelayed_ttft_s`` and ``total_delay_s`` are those of the token delay (:mod:`.token_delay`), where it is on.
    """

    request_id: str = ""
    method: str = ""
    path: str = ""
    endpoint: str = "other"
    began_at: float = 0.0
    is_work: bool = False  # it takes a slot of the engine
    is_passed_on: bool = False  # its answer is the engine's own
    status: int | None = None
    is_stream: bool = False
    is_finished: bool = False
    client_left: bool = False
    has_error_event: bool = False
    queued_s: float | None = None
    first_token_at: float | None = None
    ended_at: float | None = None
    resumed: int = 0
    n_events: int = 0
    tokens: Tokens = Tokens()
    undelayed_ttft_s: float | None = None
    total_delay_s: float = 0.0
    on_tokens: Callable[[int, float | None], None] = field(default=lambda n_events, gap_s: None, repr=False)
    _last_token_at: float | None = None
    _tail: bytes = field(default=b"", repr=False)

    def sent(self, message: Mapping[str, Any], now: float) -> None:
        """Take note of an ASGI message on its way to the client."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.is_stream = headers.is_event_stream(message.get("headers", []))
        elif message["type"] == "http.response.body":
            if self.is_passed_on and self.status == 200 and message.get("body"):
                self._read(message["body"], now)
            if not message.get("more_body", False):
                self.is_finished, self.ended_at = True, now

    def token_came(self, now: float, n_events: int = 1) -> None:
        """Take note of events with tokens that leave together."""
        gap_s = None if self._last_token_at is None else now - self._last_token_at
        self.first_token_at = now if gap_s is None else self.first_token_at
        self._last_token_at = now
        self.n_events += n_events
        self.on_tokens(n_events, gap_s)

    def _read(self, body: bytes, now: float) -> None:
        read = self._tail + body
        self._tail = read[-_LONGEST:]
        found = tokens_in(read)
        if found is not None:
            self.tokens = Tokens(found.prompt or self.tokens.prompt, found.generated or self.tokens.generated)
        if not self.is_stream:
            return
        if body.startswith(_ERRORS):
            self.has_error_event = True
        elif shows_token(body) and (n_events := body.count(b"\n\n") - body.count(_DONE)) > 0:
            self.token_came(now, n_events)

    @property
    def outcome(self) -> Outcome:
        """Return how it ended, once nothing more is sent."""
        if not self.is_finished:
            return Outcome.CLIENT_LEFT if self.client_left else Outcome.BROKEN_OFF
        if self.has_error_event:
            return Outcome.BROKEN_OFF
        status = self.status or 500
        by_status = {429: Outcome.OVERLOADED, 503: Outcome.UNAVAILABLE}
        if status >= 400:
            return by_status.get(status, Outcome.CLIENT_ERROR if status < 500 else Outcome.ERROR)
        return Outcome.OK

    @property
    def is_notable(self) -> bool:
        """Tell whether its access log line is for everybody, or for a debugger: who only looks, and sees, is not news.

        Nor is a health probe that fails: during a start each of them does, every few seconds.
        """
        return self.is_work or (self.outcome is not Outcome.OK and self.path not in _PROBES)

    @property
    def ttft_s(self) -> float | None:
        """Return the time to the first token of a stream, as its client saw it."""
        return None if self.first_token_at is None else self.first_token_at - self.began_at

    @property
    def duration_s(self) -> float:
        """Return the time from its first byte to its last, once it has ended."""
        return (self.ended_at or self.began_at) - self.began_at

    @property
    def n_generated(self) -> int:
        """Return how many tokens were generated: as the engine counts them, else the events that left."""
        return self.n_events if self.tokens.generated is None else self.tokens.generated

    def to_json(self) -> dict[str, Any]:
        """Return the fields of its access log line; those that say nothing are left out."""
        fields = {
            "request_id": self.request_id,
            "method": self.method,
            "endpoint": self.endpoint,
            "status": self.status,
            "outcome": self.outcome.value,
            "duration_s": round(self.duration_s, 4),
            "queued_s": None if self.queued_s is None else round(self.queued_s, 4),
            "ttft_s": None if self.ttft_s is None else round(self.ttft_s, 4),
            "prompt_tokens": self.tokens.prompt,
            "generated_tokens": self.n_generated or None,
            "resumed": self.resumed or None,
            "total_delay_s": round(self.total_delay_s, 4) or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


def shows_token(chunk: bytes) -> bool:
    """Tell whether an answer's bytes prove that a token came out: pings, prefill progress and errors do not."""
    return not chunk.startswith((b":", b'data: {"error"')) and b'"prompt_progress"' not in chunk


def tokens_in(body: bytes) -> Tokens | None:
    """Return the counts that some bytes of an answer end with, None when there are none."""
    timings, usage = _object_after(body, _TIMINGS), _object_after(body, _USAGE)
    if timings is None and usage is None:
        return None
    timings, usage = timings or {}, usage or {}
    prompt = _sum(usage, "prompt_tokens") or _sum(usage, "input_tokens", "cache_read_input_tokens")
    generated = _sum(usage, "completion_tokens") or _sum(usage, "output_tokens")
    return Tokens(prompt or _sum(timings, "prompt_n", "cache_n"), generated or _sum(timings, "predicted_n"))


def _object_after(body: bytes, key: bytes) -> dict[str, Any] | None:
    start = body.rfind(key)
    if start < 0:
        return None
    text = body[start + len(key) : start + len(key) + _LONGEST].decode(errors="replace").lstrip()
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _sum(numbers: dict[str, Any], *names: str) -> int | None:
    """Return the sum of those that are there, None when none is."""
    found = [numbers[name] for name in names if isinstance(numbers.get(name), int)]
    return sum(found) if found else None

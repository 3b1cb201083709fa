"""The clock of the watchdog: one timer for all requests, which tells the cluster when the engine has fallen silent."""

import asyncio
import logging
from collections.abc import Callable

from rpc_wrapper.gateway.journal.config import WatchConfig
from rpc_wrapper.gateway.journal.entry import Entry
from rpc_wrapper.gateway.journal.feed import Signs
from rpc_wrapper.gateway.journal.watchdog import Silence, Watchdog

OnSilence = Callable[[Silence], None]

log = logging.getLogger(__name__)


class Vigil:
    """Watch the streams of one engine; ``on_silence`` is called once per silence."""

    def __init__(self, config: WatchConfig, on_silence: OnSilence | None = None) -> None:
        self._watchdog = Watchdog(config)
        self._on_silence = on_silence
        self._timer: asyncio.TimerHandle | None = None

    def due_at(self) -> float | None:
        """Return when the silence will have lasted too long, by the loop's clock; None while nothing is awaited."""
        return self._watchdog.due_at()

    def begin(self, entry: Entry) -> None:
        """Watch a stream that was just asked for; what is not streamed shows no signs, and is not watched."""
        if entry.asked.shows_signs:
            self._watchdog.begin(id(entry), entry.request_id, entry.asked.n_prompt_at_most, _now())
            self._set_timer()

    def note(self, entry: Entry, signs: Signs) -> None:
        """Take note of what a piece of stream has shown."""
        now = _now()
        if signs.progress is not None:
            self._watchdog.prompt_read(id(entry), *signs.progress, now)
        if signs.n_tokens:
            self._watchdog.tokens_came(id(entry), signs.n_tokens, now)
        self._set_timer()

    def end(self, entry: Entry) -> None:
        """Watch a request no longer."""
        self._watchdog.end(id(entry))

    def _set_timer(self) -> None:
        """Look when the silence would have lasted too long; signs that come until then only move the next look."""
        if self._timer is not None:
            return
        due_at = self._watchdog.due_at()
        if due_at is not None:
            self._timer = asyncio.get_running_loop().call_at(due_at, self._look)

    def _look(self) -> None:
        self._timer = None
        silence = self._watchdog.silence(_now())
        if silence is None:
            self._set_timer()
            return
        log.warning(
            "the engine has been silent for %.1f s during %s (request %s); it may take %.1f s",
            silence.waited_s,
            silence.phase,
            silence.request_id,
            silence.deadline_s,
        )
        if self._on_silence is not None:
            self._on_silence(silence)


def _now() -> float:
    return asyncio.get_running_loop().time()

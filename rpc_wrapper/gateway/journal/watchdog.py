"""Tell a silent engine from a slow one: pure, driven by what streams show and by the time given.

One engine computes for all requests at once, so any sign from any of them proves it alive; silence counts from the
last sign of any. How much silence is too much depends on the hardest work that is waited for: reading a prompt takes
its tokens over the measured speed, one more token takes one step.
"""

from dataclasses import dataclass

from rpc_wrapper.gateway.journal.config import WatchConfig
from rpc_wrapper.gateway.journal.ending import Phase
from rpc_wrapper.gateway.journal.speeds import Speeds


@dataclass(frozen=True, slots=True)
class Silence:
    """The engine has said nothing for longer than what it does may take."""

    request_id: str
    phase: Phase
    waited_s: float
    deadline_s: float


@dataclass(slots=True)
class Watched:
    """One request at the engine; ``n_prompt`` tokens are still to be read, as far as is known."""

    request_id: str
    n_prompt: int
    sign_at: float
    n_tokens: int = 0
    is_counted: bool = False  # the engine itself has said how long the prompt is

    @property
    def phase(self) -> Phase:
        """Return what the engine does for it."""
        return Phase.DECODE if self.n_tokens else Phase.PREFILL


class Watchdog:
    """The silence of one engine, over all the streams that it serves."""

    def __init__(self, config: WatchConfig) -> None:
        self._config = config
        self._watched: dict[int, Watched] = {}
        self._sign_at = 0.0
        self._reported_at = -1.0  # the sign after which silence was last reported
        self.speeds = Speeds()

    def begin(self, key: int, request_id: str, n_prompt: int, now: float) -> None:
        """Watch a request from the moment it was sent; ``n_prompt`` is a guess, and better too high."""
        if not self._watched:
            self._sign_at = now
        self._watched[key] = Watched(request_id, n_prompt, now)

    def prompt_read(self, key: int, processed: int, total: int, now: float) -> None:
        """Take note of the progress of a prompt."""
        watched = self._watched.get(key)
        if watched is None:
            return
        left = total - processed
        if watched.is_counted:
            self.speeds.note_prefill(watched.n_prompt - left, now - watched.sign_at)
        watched.is_counted = True
        watched.n_prompt = left
        watched.sign_at = self._sign_at = now

    def tokens_came(self, key: int, n_tokens: int, now: float) -> None:
        """Take note of tokens of one stream."""
        watched = self._watched.get(key)
        if watched is None:
            return
        if watched.n_tokens:
            self.speeds.note_decode(n_tokens, now - watched.sign_at)
        watched.n_tokens += n_tokens
        watched.sign_at = self._sign_at = now

    def end(self, key: int) -> None:
        """Watch a request no longer."""
        self._watched.pop(key, None)

    def deadline_s(self) -> float:
        """Return how long the engine may be silent, given what it was asked."""
        n_prompt = sum(watched.n_prompt for watched in self._watched.values() if not watched.n_tokens)
        prefill_tps = self.speeds.prefill_tps or self._config.assumed_prefill_tps
        decode_tps = self.speeds.decode_tps or self._config.assumed_decode_tps
        if n_prompt:
            return self._config.prefill_floor_s + self._config.slack * (n_prompt / prefill_tps + 1 / decode_tps)
        return self._config.decode_floor_s + self._config.slack / decode_tps

    def due_at(self) -> float | None:
        """Return when the silence will have lasted too long; None when nothing is waited for, or it was reported."""
        if not self._watched or self._reported_at == self._sign_at:
            return None
        return self._sign_at + self.deadline_s()

    def silence(self, now: float) -> Silence | None:
        """Return a silence once, when it has lasted too long: of the request that has waited longest."""
        due_at = self.due_at()
        if due_at is None or now < due_at:
            return None
        self._reported_at = self._sign_at
        longest = min(self._watched.values(), key=lambda watched: watched.sign_at)
        return Silence(longest.request_id, longest.phase, now - self._sign_at, self.deadline_s())

"""When to try again, and when to stop trying."""

from collections.abc import Sequence
from dataclasses import dataclass

from rpc_wrapper.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Exponential backoff with jitter, and a breaker for children that crash in a loop.

    Before the first readiness ``breaker_failures`` setbacks are the whole budget, however long each took: a model may
    need minutes to load and still never fit. Afterwards the child is never given up; that many setbacks within
    ``breaker_window_s`` earn a pause of ``cooldown_s`` instead. A spell of readiness of ``reset_after_s`` clears the
    count.
    """

    initial_s: float = 0.25
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.5
    breaker_failures: int = 5
    breaker_window_s: float = 60.0
    cooldown_s: float = 60.0
    reset_after_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.initial_s <= self.max_s:
            raise ConfigError(
                f"backoff must start between 0 and {self.max_s:g} s, its longest, not at {self.initial_s:g} s"
            )
        if self.factor < 1:
            raise ConfigError(f"backoff factor {self.factor:g} would shrink the delay, use 1 or more")
        if not 0 <= self.jitter <= 1:
            raise ConfigError(f"backoff jitter {self.jitter:g} is out of range, use 0 to 1")
        if self.breaker_failures < 1:
            raise ConfigError(f"a breaker of {self.breaker_failures} failures never lets a child start, use 1 or more")

    def delay_s(self, failures: int, jitter01: float) -> float:
        """Return the pause after the given number of setbacks (1 or more) in a row.

        ``jitter01`` in [0, 1] takes up to ``jitter`` of the pause away, so that children which fell together do not
        rise together and ``max_s`` stays the longest pause.
        """
        exponent = min(failures - 1, 64)
        return min(self.initial_s * self.factor**exponent, self.max_s) * (1 - self.jitter * jitter01)

    def is_crash_loop(self, failures: Sequence[float], now: float) -> bool:
        """Tell whether the newest ``breaker_failures`` of these moments lie within the window that ends now."""
        if len(failures) < self.breaker_failures:
            return False
        return now - failures[-self.breaker_failures] <= self.breaker_window_s

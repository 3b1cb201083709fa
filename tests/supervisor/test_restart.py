"""Backoff and breaker as arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.errors import ConfigError
from rpc_wrapper.supervisor.restart import RestartPolicy


@pytest.mark.parametrize(("failures", "delay_s"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 5), (10_000, 5)])
def test_delay_grows_to_its_limit(failures: int, delay_s: float) -> None:
    assert RestartPolicy(initial_s=0.5, factor=2, max_s=5).delay_s(failures, 0) == delay_s


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1))
def test_jitter_only_shortens_and_only_by_its_share(failures: int, jitter: float, chance: float) -> None:
    policy = RestartPolicy(jitter=jitter)
    full = policy.delay_s(failures, 0)
    assert full * (1 - jitter) <= policy.delay_s(failures, chance) <= full <= policy.max_s


@pytest.mark.parametrize(
    ("failures", "now", "is_loop"), [([], 9, False), ([1, 2], 9, False), ([1, 2, 3], 11, True), ([0, 2, 3], 11, False)]
)
def test_crash_loop_is_so_many_within_the_window(failures: list[float], now: float, is_loop: bool) -> None:
    assert RestartPolicy(breaker_failures=3, breaker_window_s=10).is_crash_loop(failures, now) is is_loop


@pytest.mark.parametrize(
    ("field", "value"),
    [("initial_s", -1), ("initial_s", 31), ("factor", 0.5), ("jitter", 1.5), ("breaker_failures", 0)],
)
def test_nonsense_is_refused_with_its_number(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{value:g}"):
        RestartPolicy(**{field: value})  # type: ignore[arg-type]

"""A load that stands still, and one that is only slow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.devices import MIB
from rpc_wrapper.gateway.load_watch import ASSUMED_BYTES_PER_S, LoadLimits, LoadSigns, LoadWatch

EXPECTED = {"a:1": 100 * MIB, "b:1": 100 * MIB}
FLOOR_S, WARM_UP_S = 10.0, 30.0


def watch(expected: dict[str, int] | None = None) -> LoadWatch:
    return LoadWatch(EXPECTED if expected is None else expected, 220 * MIB, LoadLimits(FLOOR_S, WARM_UP_S), 0.0)


def signs(a: int = 0, b: int = 0, lines: int = 0, *, is_over: bool = False) -> LoadSigns:
    return LoadSigns({"a:1": a, "b:1": b}, {"a:1": a, "b:1": b}, lines, is_over)


def test_before_anything_moved_a_usual_speed_is_assumed():
    assert watch().deadline_s() == FLOOR_S + 220 * MIB / ASSUMED_BYTES_PER_S


def test_the_deadline_grows_with_what_is_left_at_the_speed_measured():
    load = watch()
    for now in range(11):
        load.observe(signs(a=now * 5 * MIB), float(now))  # 5 MiB/s
    assert load.deadline_s() == pytest.approx(FLOOR_S + 170 / 5)
    load.observe(signs(a=100 * MIB, b=100 * MIB), 20.0)
    assert load.deadline_s() == pytest.approx(FLOOR_S + 20 / 10), "20 MiB are the server's own"
    load.observe(signs(a=100 * MIB, b=100 * MIB, is_over=True), 21.0)
    assert load.deadline_s() == WARM_UP_S


def test_a_silence_names_the_backend_that_moved_last_and_is_not_done():
    load = watch()
    load.observe(signs(), 0.0)
    load.observe(signs(a=100 * MIB), 1.0)
    load.observe(signs(a=100 * MIB, b=40 * MIB), 2.0)
    allowed_s = load.deadline_s()
    assert load.fault(2.0 + allowed_s) is None
    fault = load.fault(2.1 + allowed_s)
    assert fault is not None
    assert (fault.backend, fault.phase, fault.deadline_s) == ("b:1", "load", allowed_s)
    assert fault.detected_after_s == pytest.approx(allowed_s + 0.1)
    assert "silent while loading" in fault.text
    assert "b:1 has 40 of 100 MiB" in fault.text


def test_a_silence_after_all_was_loaded_blames_nobody():
    load = watch()
    load.observe(signs(), 0.0)
    load.observe(signs(a=100 * MIB, b=100 * MIB, is_over=True), 1.0)
    assert load.fault(1.0 + WARM_UP_S) is None
    fault = load.fault(1.1 + WARM_UP_S)
    assert fault is not None
    assert fault.backend is None


def test_a_line_of_the_log_is_a_sign_of_life():
    load = watch({})
    for line in range(100):
        load.observe(signs(lines=line), line * 9.0)
        assert load.fault(line * 9.0) is None


def test_progress_is_told_with_the_time_left():
    load = watch()
    assert load.describe() == "0 of 200 MiB on the backends"
    load.observe(signs(), 0.0)
    load.observe(signs(a=50 * MIB), 5.0)
    assert load.describe() == "50 of 200 MiB on the backends, about 15 s left"
    assert watch({}).describe() == ""


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 9.9)), max_size=40))
def test_whoever_moves_in_time_is_never_at_fault(steps):
    load, now, sent = watch(), 0.0, 0
    load.observe(signs(), 0.0)
    for size_mib, pause_s in steps:
        now += pause_s
        sent += size_mib * MIB + 1
        load.observe(signs(a=sent), now)
        assert load.fault(now) is None
        assert load.deadline_s() >= FLOOR_S
        assert 0 <= load.loaded_bytes <= load.total_bytes

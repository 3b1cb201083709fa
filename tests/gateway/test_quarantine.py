"""A backend that failed proves itself before it is used again, and harder each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.gateway.quarantine import FORGIVEN_AFTER_S, MOST_DOUBLINGS, Confinement, Quarantine

A, B = "a:1", "b:1"


def serve_out(quarantine: Quarantine, backend: str, now: float) -> int:
    """Answer probes until it is free; return how many that took."""
    probes = 1
    while not quarantine.probed(backend, now, answered=True):
        probes += 1
    return probes


def test_whoever_never_failed_is_free():
    quarantine = Quarantine(3)
    assert quarantine.of(A) is None
    assert not quarantine.probed(A, 0.0, answered=True)


def test_it_takes_probes_in_a_row():
    quarantine = Quarantine(3)
    assert quarantine.confine(A, "silence", 0.0)
    assert quarantine.of(A) == Confinement("silence", 3)
    freed = [quarantine.probed(A, 0.0, answered=answered) for answered in (True, True, False, True, True, True)]
    assert freed == [False] * 5 + [True]
    assert quarantine.of(A) is None
    assert quarantine.of(B) is None


def test_each_failure_costs_twice_the_probes_up_to_a_bound():
    quarantine = Quarantine(2)
    needed = []
    for now in range(MOST_DOUBLINGS + 3):
        assert quarantine.confine(A, "lost", float(now))
        needed.append(serve_out(quarantine, A, float(now)))
    assert needed == [2, 4, 8, 16, 32, 64, 64, 64]


def test_where_nobody_else_can_help_the_first_probes_will_do():
    quarantine = Quarantine(3)
    for _ in range(4):
        quarantine.confine(A, "lost", 0.0)
        serve_out(quarantine, A, 0.0)
    quarantine.confine(A, "lost", 0.0)
    quarantine.probed(A, 0.0, answered=True)
    quarantine.relent()
    assert not quarantine.probed(A, 0.0, answered=True)
    assert quarantine.probed(A, 0.0, answered=True)
    quarantine.confine(A, "lost", 1.0)
    assert serve_out(quarantine, A, 1.0) == 3 << 5  # it is not forgiven for that


def test_a_long_good_time_is_forgiven():
    quarantine = Quarantine(3)
    for now, needed in ((0.0, 3), (10.0, 6), (15.0 + FORGIVEN_AFTER_S, 12), (21.0 + 2 * FORGIVEN_AFTER_S, 3)):
        quarantine.confine(A, "lost", now)
        assert serve_out(quarantine, A, now + 5.0) == needed


def test_one_failure_told_twice_counts_once():
    quarantine = Quarantine(2)
    assert quarantine.confine(A, "lost", 0.0)
    quarantine.probed(A, 0.0, answered=True)
    assert not quarantine.confine(A, "silent", 0.1)
    assert quarantine.of(A) == Confinement("lost", 2, answered=0)


def test_it_says_how_far_it_is():
    quarantine = Quarantine(3)
    quarantine.confine(A, "was lost", 0.0)
    quarantine.probed(A, 0.0, answered=True)
    assert str(quarantine.of(A)) == "in quarantine (1 of 3 probes answered): was lost"


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from([A, B]), st.sampled_from(["fail", "yes", "no"]), st.floats(0, 900))),
)
def test_nobody_is_free_without_enough_answers_in_a_row(probes, happenings):
    quarantine, now, row = Quarantine(probes), 0.0, dict.fromkeys([A, B], probes)
    for backend, what, pause_s in happenings:
        now += pause_s
        if what == "fail":
            quarantine.confine(backend, "lost", now)
            row[backend] = 0
        else:
            was_confined = quarantine.of(backend) is not None
            row[backend] = row[backend] + 1 if what == "yes" else 0
            freed = quarantine.probed(backend, now, answered=what == "yes")
            assert freed == (was_confined and quarantine.of(backend) is None)
            assert not freed or row[backend] >= probes
        confined = quarantine.of(backend)
        assert confined is None or probes <= confined.needed <= probes << MOST_DOUBLINGS
        assert confined is None or confined.answered < confined.needed


@pytest.mark.parametrize("probes", [1, 3])
def test_a_flapping_backend_is_let_in_ever_more_rarely(probes):
    quarantine, times_in = Quarantine(probes), 0
    for now in range(600):  # it answers every probe, and fails as soon as it is used
        if quarantine.of(A) is None:
            times_in += 1
            quarantine.confine(A, "lost", float(now))
        else:
            quarantine.probed(A, float(now), answered=True)
    assert times_in <= 24  # 600 without the doubling


def test_time_in_quarantine_is_no_good_time():
    quarantine = Quarantine(3)
    quarantine.confine(A, "lost", 0.0)
    assert serve_out(quarantine, A, 10 * FORGIVEN_AFTER_S) == 3
    quarantine.confine(A, "lost", 10 * FORGIVEN_AFTER_S + 1)
    assert quarantine.of(A) == Confinement("lost", 6, strikes=2)


def test_nobody_waits_for_the_third_failure_in_a_row():
    quarantine = Quarantine(1)
    flaps = []
    for now in range(4):
        quarantine.confine(A, "lost", float(now))
        confined = quarantine.of(A)
        assert confined is not None
        flaps.append(confined.is_flapping)
        serve_out(quarantine, A, float(now))
    assert flaps == [False, False, True, True]

"""A loop that stands still is seen from outside of it; a process that was stopped as a whole is not blamed."""

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.supervisor.loop_watch import REMEMBERED_S, Ledger, LoopWatch, Stalls


def test_a_turning_loop_has_no_stalls():
    ledger = Ledger(0.0)
    for now in range(100):
        ledger.beat(now * 0.5)
        assert ledger.look(now * 0.5 + 0.4, 0.0) is None
    assert ledger.stalls(50.0) == Stalls()


def test_a_stall_is_told_once_while_it_lasts_and_counted_whole_afterwards():
    ledger = Ledger(0.0)
    assert [ledger.look(now, 0.0) for now in (0.5, 1.5, 2.0, 2.5)] == [None, 1.5, None, None]
    ledger.beat(3.0)
    assert ledger.stalls(3.0) == Stalls(1, 3.0)
    assert ledger.stalls(4.0 + REMEMBERED_S) == Stalls(1, 0.0)


def test_a_process_that_was_stopped_as_a_whole_did_not_stall():
    ledger = Ledger(0.0)
    assert ledger.look(60.5, 60.0) is None
    ledger.beat(60.6)
    assert ledger.stalls(61.0) == Stalls()


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 20)), max_size=50))
def test_the_longest_is_never_longer_than_the_time_that_passed(happenings):
    ledger, now, told = Ledger(0.0), 0.0, 0
    for is_beat, pause_s in happenings:
        now += pause_s
        if is_beat:
            ledger.beat(now)
        elif ledger.look(now, 0.0) is not None:
            told += 1
    assert ledger.stalls(now).count == told
    assert 0 <= ledger.stalls(now).longest_s <= now


async def test_a_real_loop_is_watched_and_the_thread_ends_with_it(caplog):
    async with LoopWatch() as watch:
        time.sleep(1.8)  # noqa: ASYNC251 - the stall
        assert "the event loop has stood still" in caplog.text
        assert "time.sleep(1.8)" in caplog.text
        assert watch.stalls.count == 1
    for thread in threading.enumerate():
        if thread.name == "loop watch":
            thread.join(5)
            assert not thread.is_alive()

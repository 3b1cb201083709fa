"""Where the time of tokens went: sums are exact, however seldom somebody looks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.talk.split import Splitter


def test_what_was_waited_since_the_last_look_is_shared_out_by_how_long_tokens_took():
    splitter = Splitter(0.0, {"a": 5.0, "b": 1.0})
    splitter.came("x", 1.0)
    [first] = splitter.looked({"a": 5.2, "b": 1.4})
    assert (first.number, first.text) == (1, "x")
    assert (first.total_s, first.remote_s) == pytest.approx((1.0, 0.6))
    splitter.came("y", 2.0)
    splitter.came("z", 5.0)
    second, third = splitter.looked({"a": 7.2, "b": 1.4})
    assert [(each.number, each.text) for each in (second, third)] == [(2, "y"), (3, "z")]
    assert (second.total_s, second.remote_s) == pytest.approx((1.0, 0.5))
    assert (third.total_s, third.remote_s) == pytest.approx((3.0, 1.5))
    assert not splitter.has_pending


def test_links_that_work_side_by_side_count_by_the_slowest():
    splitter = Splitter(0.0, {}, side_by_side=True)
    splitter.came("x", 1.0)
    [token] = splitter.looked({"a": 0.2, "b": 0.5})
    assert token.remote_s == pytest.approx(0.5)


def test_a_new_link_starts_from_nothing():
    splitter = Splitter(0.0, {"a": 9.0})
    splitter.came("x", 1.0)
    [token] = splitter.looked({"a": 0.25})
    assert (token.remote_s, token.local_s) == pytest.approx((0.25, 0.75))


def test_nothing_came_nothing_is_said():
    assert Splitter(0.0, {}).looked({"a": 1.0}) == []


@given(st.lists(st.tuples(st.floats(0.001, 10), st.floats(0, 1), st.booleans()), min_size=1))
def test_no_token_waited_longer_than_it_took_and_no_waiting_is_lost(steps):
    """Each step is a token: how long it took, which share of it was waiting, whether somebody looked after it."""
    splitter = Splitter(0.0, {"a": 0.0})
    now = waited = 0.0
    tokens = []
    for took_s, share, is_looked in steps:
        now += took_s
        waited += took_s * share
        splitter.came("x", now)
        tokens += splitter.looked({"a": waited}) if is_looked else []
    tokens += splitter.looked({"a": waited})
    assert [token.number for token in tokens] == list(range(1, len(steps) + 1))
    assert all(-1e-9 <= token.remote_s <= token.total_s + 1e-9 for token in tokens)
    assert sum(token.total_s for token in tokens) == pytest.approx(now)
    assert sum(token.remote_s for token in tokens) == pytest.approx(waited)

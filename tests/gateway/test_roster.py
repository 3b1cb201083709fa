"""The list of backends changes, and says no in a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.gateway.roster import Roster

A, B, C = (Endpoint(name, 50052) for name in "abc")


def test_one_is_added_at_the_end_and_once():
    roster = Roster((A,)).with_added(B)
    assert roster.listed == (A, B)
    assert roster.with_added(B) == roster


def test_a_budget_does_not_make_another_backend():
    assert Roster((A,)).with_added(Endpoint("a", 50052, budget_bytes=1 << 30)).listed == (A,)


def test_one_is_removed():
    assert Roster((A, B)).without(A).listed == (B,)


def test_an_address_of_a_name_is_dismissed_and_comes_back():
    addresses = [A.at("10.0.0.1"), A.at("10.0.0.2")]
    roster = Roster((A,)).without(addresses[0], addresses)
    assert roster.listed == (A,)
    assert not roster.has(addresses[0])
    assert roster.dismissed == {"10.0.0.1:50052"}
    assert roster.with_added(addresses[0]) == Roster((A,))


def test_a_stranger_cannot_be_removed():
    with pytest.raises(ConfigError, match=r"c:50052 is not among the backends \(a:50052,b:50052\)"):
        Roster((A, B)).without(C)


def test_there_are_never_more_than_the_engine_takes():
    full = Roster(tuple(Endpoint("a", port) for port in range(1, 17)))
    with pytest.raises(ConfigError, match="16 backends are listed"):
        full.with_added(B)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([A, B, C]))))
def test_any_changes_leave_each_listed_at_most_once(changes):
    roster = Roster((A, B))
    for is_added, backend in changes:
        had = roster.has(backend)
        if is_added:
            roster = roster.with_added(backend)
        elif had:
            roster = roster.without(backend)
        assert roster.has(backend) == is_added
        assert len(set(roster.listed)) == len(roster.listed)

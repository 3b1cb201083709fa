from rpc_wrapper.link.lease import Lease


def test_one_peer_at_a_time():
    lease = Lease(10)
    assert lease.holder(0.0) is None
    assert lease.take("a", 0.0)
    assert not lease.take("b", 1.0)
    assert lease.take("a", 1.0)
    assert lease.holder(100.0) == "a"
    assert lease.held_s(100.0) == 100.0


def test_it_outlives_the_pauses_between_connections():
    lease = Lease(10)
    lease.take("a", 0.0)
    lease.leave(5.0)
    assert not lease.take("b", 14.9)
    assert lease.take("a", 14.9)
    lease.leave(15.0)
    assert lease.holder(25.0) is None
    assert lease.held_s(25.0) == 0
    assert lease.take("b", 25.0)


def test_the_last_of_several_connections_counts():
    lease = Lease(10)
    lease.take("a", 0.0)
    lease.take("a", 0.0)
    lease.leave(1.0)
    assert lease.holder(50.0) == "a"
    lease.leave(50.0)
    assert lease.holder(60.0) is None


def test_holding_starts_with_the_first_connection_of_a_lease():
    lease = Lease(10)
    lease.take("a", 0.0)
    lease.leave(1.0)
    lease.take("a", 100.0)
    assert lease.held_s(101.0) == 1.0

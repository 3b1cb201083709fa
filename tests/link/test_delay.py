import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.link.delay import DelayLine, Network


def request(size: int) -> bytes:
    return struct.pack("<BQ", 6, size) + bytes(size)


def test_a_constant_latency_delays_and_does_not_slow_down():
    line = DelayLine(Network(0.01, 0.01), 9)
    arrivals = [line.send(request(1_000_000), 1.0 + i / 1000) for i in range(100)]
    assert arrivals == pytest.approx([1.01 + i / 1000 for i in range(100)])
    assert line.backlog_s(1.1) == 0


def test_the_same_seed_is_the_same_network():
    first, again, other = (
        [line.send(request(3), float(i)) for i in range(20)]
        for line in (DelayLine(Network(0.01, 0.5, seed=seed), 9) for seed in (1, 1, 2))
    )
    assert first == again != other


def test_both_directions_of_one_seed_differ():
    network = Network(0.01, 0.5)
    assert DelayLine(network, 9).send(request(1), 0.0) != DelayLine(network, 8).send(struct.pack("<Q", 0), 0.0)


def test_the_rest_of_a_message_has_its_message_s_latency():
    line = DelayLine(Network(0.1, 0.9), 9)
    data = request(100)
    latency = line.send(data[:50], 0.0)
    assert line.send(data[50:], 1.0) == pytest.approx(1.0 + latency)


def test_bandwidth_spreads_the_bytes_over_time():
    line = DelayLine(Network(mbit_per_s=8.0), 9)  # a million bytes per second
    assert line.send(request(500_000 - 9), 0.0) == pytest.approx(0.5)
    assert line.send(request(500_000 - 9), 0.0) == pytest.approx(1.0)
    assert line.backlog_s(0.25) == pytest.approx(0.75)


@given(
    st.lists(st.tuples(st.binary(max_size=30), st.floats(0, 1)), max_size=30), st.floats(0, 0.1), st.floats(0.1, 0.2)
)
def test_order_is_kept_and_latency_stays_in_its_bounds(sends, low, high):
    line = DelayLine(Network(low, high), 9)
    now = last = 0.0
    for data, pause in sends:
        now += pause
        arrival = line.send(data, now)
        assert arrival >= last
        assert now + low <= arrival + 1e-9
        assert arrival <= max(last, now + high) + 1e-9
        last = arrival

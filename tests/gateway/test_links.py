"""Each backend's simulated network is its own, and the same in every run."""

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.gateway.links import drawn_apart
from rpc_wrapper.link.delay import DelayLine, Network
from rpc_wrapper.rpc.commands import REPLY_HEADER

NETWORK = Network(0.01, 0.05, seed=7)


def arrivals(backend: Endpoint) -> list[float]:
    """Return when empty replies arrive that are sent a second apart."""
    line = DelayLine(drawn_apart(NETWORK, backend), REPLY_HEADER.size)
    return [line.send(REPLY_HEADER.pack(0), float(second)) for second in range(8)]


def test_two_hosts_with_one_port_draw_other_delays():
    assert arrivals(Endpoint("10.0.0.1", 50052)) != arrivals(Endpoint("10.0.0.2", 50052))


def test_one_backend_meets_the_same_network_again():
    assert arrivals(Endpoint("10.0.0.1", 50052)) == arrivals(Endpoint("10.0.0.1", 50052))
    assert drawn_apart(NETWORK, Endpoint("10.0.0.1", 50052)).seed == 7 + 0xD6BAC2D9  # in another process, too

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.config.link_overrides import LinkOverride, parse_link_overrides
from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConfigError

BOX = Endpoint("box1", 50052)


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("box1:50052+latency=0.02", LinkOverride(BOX, (0.02, 0.02))),
        ("box1:50052+latency=0.01-0.02", LinkOverride(BOX, (0.01, 0.02))),
        ("box1:50052+latency=0", LinkOverride(BOX, (0.0, 0.0))),
        ("box1:50052+mbit=100", LinkOverride(BOX, mbit_per_s=100.0)),
        ("box1:50052+mbit=2.5+latency=1", LinkOverride(BOX, (1.0, 1.0), 2.5)),
        ("box1:50052+mbit=unlimited", LinkOverride(BOX, mbit_per_s=math.inf)),
        (" [fd00::1]:7+mbit=1 ", LinkOverride(Endpoint("fd00::1", 7), mbit_per_s=1.0)),
    ],
)
def test_one_override_is_read(text, override):
    assert parse_link_overrides(text) == (override,)


def test_a_list_keeps_its_order():
    first, second = parse_link_overrides("b:2+mbit=1,a:1+mbit=2")
    assert (first.endpoint.host, second.endpoint.host) == ("b", "a")
    assert parse_link_overrides("") == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("box1+mbit=1", "'box1' is malformed"),
        ("box1:0+mbit=1", "port 0 is out of range"),
        ("box1:50052", "overrides nothing"),
        ("box1:50052=512+mbit=1", "say that in APP_RPC_BACKENDS"),
        ("box1:50052+agent=1", "'agent' is neither latency nor mbit"),
        ("box1:50052+latency=5ms", "latency=5ms is not in seconds"),
        ("box1:50052+latency=-1", "latency=-1 is not in seconds"),
        ("box1:50052+latency=0.02-0.01", "from 0.02 to 0.01 s is none"),
        ("box1:50052+mbit=0", "mbit=0 is no bandwidth"),
        ("box1:50052+mbit=fast", "mbit=fast is no bandwidth"),
        ("box1:50052+mbit=1+mbit=2", "says mbit twice"),
        ("box1:50052+mbit=1,box1:50052+latency=1", "box1:50052 has 2 overrides"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(text, complaint):
    with pytest.raises(ConfigError) as refusal:
        parse_link_overrides(text)
    assert complaint in str(refusal.value)


milli = st.integers(0, 10**6).map(lambda number: number / 1000)
latencies = st.none() | st.tuples(milli, milli).map(lambda pair: (min(pair), max(pair)))
bandwidths = st.none() | st.just(math.inf) | st.integers(1, 10**9).map(float)


@given(latencies, bandwidths)
def test_what_is_written_is_read_back(latency_s, mbit_per_s):
    override = LinkOverride(BOX, latency_s, mbit_per_s)
    if latency_s is None and mbit_per_s is None:
        return
    (again,) = parse_link_overrides(str(override))
    assert again.mbit_per_s == mbit_per_s
    assert again.latency_s == (pytest.approx(latency_s) if latency_s else None)

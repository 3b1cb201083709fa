"""Figures are written as Prometheus reads them."""

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from rpc_wrapper.metrics.exposition import counter, gauge, render, wants_json


def test_what_is_written_can_be_read_back():
    families = [
        gauge("rpcw_a_bytes", 'Odd "text" \\ here.', [({"backend": 'a"b\\c\nd'}, 1.5), ({"backend": "none"}, None)]),
        counter("rpcw_b_total", "A counter.", [({}, 7)]),
    ]
    read = {family.name: family for family in text_string_to_metric_families(render(families).decode())}
    assert [(s.name, s.labels, s.value) for s in read["rpcw_a_bytes"].samples] == [
        ("rpcw_a_bytes", {"backend": 'a"b\\c\nd'}, 1.5)
    ]
    assert [(s.name, s.value) for s in read["rpcw_b"].samples] == [("rpcw_b_total", 7.0)]
    assert read["rpcw_b"].type == "counter"


def test_a_family_without_samples_is_not_there():
    assert render([gauge("rpcw_a", "Nothing.", [])]) == b""


def test_moments_of_creation_are_left_out():
    registry = CollectorRegistry()
    Counter("rpcw_c", "A counter.", registry=registry).inc()
    assert b"_created" not in render(registry.collect())


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", True),
        ("application/json, */*;q=0.1", True),
        ("text/plain;version=0.0.4, application/json", False),
        ("application/openmetrics-text, application/json", False),
    ],
)
def test_json_for_who_asks_for_it(accept, is_json):
    assert wants_json(accept) is is_json

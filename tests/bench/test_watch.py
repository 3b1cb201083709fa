"""Processes found by their ports, told apart by their programs; bytes counted between two readings."""

import os
import socket

import httpx

from rpc_wrapper.bench.stats import NodeUse
from rpc_wrapper.bench.watch import Reading, Watch, between, listener_pid, plan_text
from tests.bench.serve import fake_server

PLAN = {
    "strategy": "uniform",
    "workload": {"split_mode": "layer"},
    "assignments": [
        {"endpoint": None, "device": "CPU", "first_block": 0, "last_block": 3, "has_output": False},
        {"endpoint": "b:1", "device": "RPC0", "first_block": 4, "last_block": 7, "has_output": True},
    ],
}


def test_between_two_readings_lie_loads_and_bytes():
    before = Reading(10.0, {"gateway": 1.0, "gone": 0.0}, {"gateway": 5}, 100)
    after = Reading(12.0, {"gateway": 2.0, "new": 1.0}, {"gateway": 7, "new": 1}, 350)
    assert between(before, after) == ((NodeUse("gateway", 50.0, 7),), 250)


def test_without_links_no_bytes_are_told():
    assert between(Reading(0, {}, {}, None), Reading(1, {}, {}, 5)) == ((), None)


def test_a_listener_of_this_machine_is_found():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert listener_pid(f"http://127.0.0.1:{port}") == os.getpid()
    assert listener_pid("http://192.0.2.1:80") is None
    assert listener_pid(f"http://127.0.0.1:{port}") is None


async def test_a_target_without_a_cluster_says_nothing_of_it():
    async with fake_server() as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        watch = Watch(http, None)
        assert await watch.cluster() == {}
        reading = await watch.read()
    assert (reading.cpu_s, reading.link_bytes) == ({}, None)


async def test_of_machines_elsewhere_their_gateway_tells():
    nodes = [{"name": "server", "cpu_s": 2.5, "rss_bytes": 7}, {"name": "b:1", "cpu_s": None, "rss_bytes": None}]
    links = [{"bytes_to_backend": 3, "bytes_from_backend": 4}]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"nodes": nodes, "links": links})

    async with httpx.AsyncClient(base_url="http://box", transport=httpx.MockTransport(answer)) as http:
        reading = await Watch(http, None).read()
    assert (reading.cpu_s, reading.peak_rss_bytes, reading.link_bytes) == ({"server": 2.5}, {"server": 7}, 7)


def test_a_plan_in_a_line():
    assert plan_text({"plan": PLAN}) == "uniform, split by layer: CPU: blocks 0-3; b:1: blocks 4-7 and output"
    assert plan_text({}) == ""
    assert plan_text({"plan": None}) == ""

"""A demo's programs a second time, without us."""

from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from rpc_wrapper.bench.cluster import Place, demo_cluster
from rpc_wrapper.bench.driver import Target
from rpc_wrapper.bench.twin import Programs, bare_twin, free_ports, programs_of, with_value
from rpc_wrapper.cli.options import environment
from rpc_wrapper.errors import StartFailed

DEMO = Path(__file__).parent.parent.parent / "models" / "demo.gguf"


async def greedy(target: Target) -> Any:
    headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    body = {"prompt": "Once upon a time", "n_predict": 16, "temperature": 0}
    async with httpx.AsyncClient(base_url=target.base_url, headers=headers, timeout=60, trust_env=False) as http:
        return (await http.post("/completion", json=body)).raise_for_status().json()["content"]


@pytest.mark.engine
async def test_gateway_engine_and_twin_say_the_same_and_leave_nothing_behind(tmp_path):
    arguments = ["--model", str(DEMO), "--ctx-size", "256", "--parallel", "1"]
    [port] = free_ports(1)
    earlier = set(psutil.Process().children(recursive=True))  # of tests whose clusters live on
    async with demo_cluster(Place(tmp_path, environment()), port, arguments) as cluster:
        programs = programs_of(cluster.pid)
        async with bare_twin(programs, environment()) as twin:
            answers = [await greedy(target) for target in (cluster.gateway, cluster.engine, twin.target)]
            family = set(psutil.Process().children(recursive=True)) - earlier
    assert len(programs.workers) == 2
    assert len(family) >= 1 + 3 + 3
    assert answers[0]
    assert len(set(answers)) == 1
    assert twin.load_s > 0
    assert not any(process.is_running() for process in family)


async def test_a_twin_that_ends_is_a_failure(tmp_path):
    programs = Programs(("/bin/false", "--rpc", "x", "--port", "1"), ())
    with pytest.raises(StartFailed, match="ended with 1 before its first token"):
        async with bare_twin(programs, environment()):
            raise AssertionError("it must not get here")


def test_a_flag_gets_another_value_where_it_stood():
    assert with_value(["p", "--port", "1", "--port-range", "1"], "--port", 2) == [
        "p",
        "--port",
        "2",
        "--port-range",
        "1",
    ]


def test_free_ports_are_different():
    assert len(set(free_ports(20))) == 20

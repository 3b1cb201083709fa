"""What a watcher of a real cluster sees: every machine, the requests, a lost worker at once, a resumed stream."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.cluster import DEADLINE_S, Cluster, demo

pytestmark = pytest.mark.engine


def watch(cluster: Cluster, seen: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the events of ``/cluster/events``: id, name, sections."""
    headers = {"last-event-id": seen} if seen else {}
    with httpx.stream(
        "GET", f"{cluster.url}/cluster/events", headers=headers, timeout=DEADLINE_S, trust_env=False
    ) as response:
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield fields["id"], fields["event"], json.loads(fields["data"])
                fields = {}


def until(events: Iterator[tuple[str, str, dict[str, Any]]], known: dict[str, Any], holds: Any) -> str:
    """Follow the events until something holds of what is known by then; return the last id."""
    for seen, _, sections in events:
        known |= sections
        if holds(known):
            return seen
    raise AssertionError("the stream ended")


def states(known: dict[str, Any]) -> dict[str, str]:
    """Return the state of every machine."""
    return {node["name"]: node["state"] for node in known["nodes"]}


def test_a_watcher_sees_machines_tokens_and_a_lost_worker(tmp_path: Path):
    with demo(tmp_path, backends=2) as cluster:
        known: dict[str, Any] = {}
        events = watch(cluster)
        until(events, known, lambda now: len(now["nodes"]) == 3)
        assert set(states(known).values()) == {"up"}
        assert known["load"] is None
        asking = threading.Thread(target=cluster.complete, args=("Once upon a time", 100))
        asking.start()
        until(events, known, lambda now: now["traffic"]["tokens_total"] >= 100)
        asking.join()
        worked = [node["cpu_percent"] for node in known["nodes"] if node["cpu_percent"] is not None]
        assert worked
        assert all(node["rss_bytes"] > 0 for node in known["nodes"])
        cluster.children("ggml-rpc-server")[0].send_signal(signal.SIGKILL)
        seen = until(events, known, lambda now: {"down", "starting"} & set(states(now).values()))
        until(watch(cluster, seen), known, lambda now: now["state"] == "ready" and set(states(now).values()) == {"up"})


def test_strategies_are_compared_over_the_backends_that_serve(cluster: Cluster):
    answer = cluster.get("/cluster/strategies").json()
    outcomes = {outcome["name"]: outcome for outcome in answer["strategies"]}
    assert answer["chosen"] == "memory"
    assert set(outcomes) == {"uniform", "memory", "compute", "mixed", "single_device", "local"}
    plan = cluster.get("/cluster").json()["plan"]
    assert outcomes["memory"]["argv"] == plan["argv"]
    assert len(outcomes["single_device"]["assignments"]) == 1
    assert outcomes["local"]["assignments"][0]["endpoint"] is None

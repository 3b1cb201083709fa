"""docker-distributed-llm's endpoints, delays and logs, on a real cluster started from the command line."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.cluster import DEADLINE_S, Cluster, demo, eventually

pytestmark = pytest.mark.engine


def events(text: str) -> list[Any]:
    """Return each event's data, parsed where it is JSON."""
    found = [event.removeprefix("data: ") for event in text.split("\n\n") if event.startswith("data: ")]
    return [event if event == "[DONE]" else json.loads(event) for event in found]


def stream(cluster: Cluster, prompt: str, max_tokens: int) -> list[Any]:
    return events(cluster.get("/stream", params={"prompt": prompt, "max_tokens": max_tokens}).text)


def agent(cluster: Cluster, number: int, method: str, path: str, **headers: str) -> httpx.Response:
    address = cluster.get("/cluster").json()["backends"][number]["address"]
    url = f"http://127.0.0.1:{int(address.split(':')[1]) + 1}{path}"
    return httpx.request(method, url, headers=headers, timeout=DEADLINE_S, trust_env=False)


def lines(cluster: Cluster) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cluster.text().splitlines() if line.startswith("{")]


def test_a_prompt_is_streamed_with_its_times_and_loads(tmp_path: Path) -> None:
    with demo(tmp_path) as cluster:
        *texts, times, done = stream(cluster, "Once upon a time", 40)
        whole = cluster.complete("Once upon a time", 40)
        assert "".join(event["text"] for event in stream(cluster, "Once upon a time", 3)[:-2])
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda n: stream(cluster, "Once", n), (5, 9)))
    assert done == "[DONE]"
    assert len("".join(event["text"] for event in texts)) > 20
    assert whole
    assert times["ttft"] > 0
    assert times["total_delay"] == 0
    assert set(times["cpu_stats"]) | {"backend", "worker1", "worker2"} == {"backend", "worker1", "worker2"}
    assert set(times["mem_stats"]) == {"backend", "worker1", "worker2"}
    assert all(0 < each["avg"] <= each["max"] for each in times["mem_stats"].values())
    assert [each[-1] for each in both] == ["[DONE]", "[DONE]"]


def test_workers_are_shown_and_restarted(tmp_path: Path) -> None:
    with demo(tmp_path) as cluster:
        rows = cluster.get("/workers/status").json()
        assert [row["worker_id"] for row in rows] == [1, 2, "backend"]
        assert all(row["is_available"] and row["memory_usage_mb"] > 1 for row in rows)
        status = cluster.get("/system/status").json()
        assert status == {
            "server_status": "running",
            "total_workers": 2,
            "available_workers": 2,
            "model_path": "demo.gguf",
            "tokenizer_path": "demo.gguf",
        }
        before = {child.pid for child in cluster.children("ggml-rpc-server")}
        done = cluster.post("/workers/restart", {}, headers={"x-request-id": "again-1"})
        assert (done.status_code, done.headers["x-request-id"]) == (200, "again-1")
        assert [row["status"] for row in done.json()["workers"]] == ["restarted", "restarted"]
        eventually(lambda: not before & {child.pid for child in cluster.children("ggml-rpc-server")}, "new workers")
        eventually(lambda: cluster.get("/system/status").json()["available_workers"] == 2, "workers that answer")
        eventually(cluster.is_ready, "recovery")
        assert cluster.complete("Once", 4)
        figures = cluster.get("/performance/metrics").json()
        assert figures["system"]["active_workers"] == 2
        assert all(
            each["memory"]["rss_mb"] > 1 and each["cpu"]["num_threads"] > 0 for each in figures["worker_metrics"]
        )


def test_an_agent_may_be_told_twice(tmp_path: Path) -> None:
    with demo(tmp_path, backends=1) as cluster:
        assert agent(cluster, 0, "POST", "/start").json()["status"] == "already_running"
        assert agent(cluster, 0, "POST", "/stop").json()["status"] == "stopped"
        assert agent(cluster, 0, "POST", "/stop").json()["status"] == "not_running"
        stopped = agent(cluster, 0, "GET", "/metrics", accept="application/json")
        assert (stopped.status_code, stopped.json()["status"]) == (404, "offline")
        assert "rpcw_worker_up 0.0" in agent(cluster, 0, "GET", "/metrics").text
        assert agent(cluster, 0, "GET", "/healthz").status_code == 503
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: agent(cluster, 0, "POST", "/restart").json()["status"], range(4)))
        assert answers == ["restarted"] * 4
        eventually(lambda: agent(cluster, 0, "GET", "/healthz").status_code == 200, "the worker's return")
        running = agent(cluster, 0, "GET", "/metrics", accept="application/json", **{"x-request-id": "m-1"})
        assert (running.status_code, running.headers["x-request-id"]) == (200, "m-1")
        assert running.json()["memory"]["rss_mb"] > 1
        eventually(cluster.is_ready, "recovery")


def test_every_token_waits_when_asked_to(tmp_path: Path) -> None:
    delays = ("--token-delay-min-s", "0.01", "--token-delay-max-s", "0.02", "--token-delay-seed", "5")
    body = {"prompt": "Once upon a time", "n_predict": 20, "stream": True, "temperature": 0, "ignore_eos": True}
    with demo(tmp_path, *delays, backends=1) as cluster:
        slow = cluster.post("/completion", body)
        *_, times, _ = stream(cluster, "Once upon a time", 20)
    report = re.search(r": token delay: total_delay=([\d.]+) ttft=([\d.]+) ttft_with_delay=([\d.]+)\n\n$", slow.text)
    assert report is not None
    assert 20 * 0.01 <= float(report[1]) <= 20 * 0.02
    assert slow.elapsed.total_seconds() >= float(report[1])
    assert times["ttft"] < times["ttft_with_delay"]
    assert times["total_delay"] >= times["tokens"] * 0.009


def test_the_log_tells_of_every_request_and_every_change(tmp_path: Path) -> None:
    options = ("--log-format", "json", "--log-level", "debug")
    with demo(tmp_path, *options, backends=1, APP_API_KEYS="sesame-key") as cluster:
        key = {"authorization": "Bearer sesame-key"}
        cluster.post(
            "/completion", {"prompt": "Once", "n_predict": 5, "stream": True}, headers={**key, "x-request-id": "r-1"}
        )
        cluster.post("/completion", {"prompt": "Once"})
        eventually(lambda: any(line.get("status") == 401 for line in lines(cluster)), "the refusal's line")
        found = lines(cluster)
    (request,) = [line for line in found if line.get("request_id") == "r-1" and line["logger"] == "rpc_wrapper.access"]
    assert (request["endpoint"], request["status"], request["outcome"]) == ("/completion", 200, "ok")
    assert request["generated_tokens"] == 5
    assert 0 < request["ttft_s"] <= request["duration_s"]
    states = [line["state"] for line in found if line.get("source") == "llama-server" and "state" in line]
    assert states[:3] == ["preparing", "starting", "ready"]
    assert any(line.get("source") == "worker" and "state" not in line for line in found)
    assert "sesame-key" not in cluster.text()


def test_the_log_follows_a_request_over_the_loss_of_a_worker(tmp_path: Path) -> None:
    body = {"prompt": "Once upon a time", "n_predict": 400, "stream": True, "ignore_eos": True}
    with demo(tmp_path, "--log-format", "json", "--log-level", "info") as cluster:
        url, headers = f"{cluster.url}/completion", {"x-request-id": "lost-1"}
        with httpx.stream("POST", url, json=body, headers=headers, timeout=DEADLINE_S, trust_env=False) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            cluster.children("ggml-rpc-server")[0].kill()
            text = b"".join(pieces)
        assert b": resumed 1" in text
        found = lines(cluster)
        metrics = cluster.get("/metrics").text
    told = [line for line in found if line.get("request_id") == "lost-1"]
    assert [line["logger"].rsplit(".", 1)[1] for line in told] == ["run", "run", "access"]
    assert told[0]["phase"] in ("prefill", "decode")
    assert told[0]["delivered_tokens"] <= told[1]["delivered_tokens"]
    assert (told[2]["resumed"], told[2]["outcome"]) == (1, "ok")
    backends = {line["backend"] for line in found if "fault" in line and "backend" in line}
    assert len(backends) == 1
    assert backends < set(re.findall(r'^rpcw_backend_up\{backend="([^"]+)"\}', metrics, re.MULTILINE))
    assert re.search(r"^rpcw_resumes_total 1\.0$", metrics, re.MULTILINE)

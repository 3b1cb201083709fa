"""Quarantine, replanning, changes of the list, draining and stopped workers: a real engine through the command line."""

import json
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from rpc_wrapper.engine.binaries import find_engine
from tests.engine.cluster import DEADLINE_S, DEMO, Cluster, command, demo, eventually, free_port

pytestmark = pytest.mark.engine

LONG = {"prompt": "Once upon a time", "n_predict": 400, "temperature": 0, "ignore_eos": True}
EXACT = ("--exact", "true", "--ctx-size", "1024")


def backends(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return the rows of the backends, by address."""
    return {row["address"]: row for row in cluster.get("/cluster").json()["backends"]}


def planned(cluster: Cluster) -> set[str]:
    """Return the addresses that the present plan puts something on."""
    return {address for address, row in backends(cluster).items() if row["used"]}


def history(cluster: Cluster) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = cluster.get("/cluster").json()["history"]
    return entries


def told(cluster: Cluster, text: str) -> bool:
    return any(text in entry["text"] for entry in history(cluster))


def agent(address: str, path: str) -> Any:
    """Ask the agent of a backend of the demo: GET for its status, POST for the rest."""
    host, port = address.rsplit(":", 1)
    method = "GET" if path == "/status" else "POST"
    url = f"http://{host}:{int(port) + 1}{path}"
    return httpx.request(method, url, timeout=DEADLINE_S, trust_env=False).json()


def signal_worker(cluster: Cluster, address: str, number: int) -> None:
    pid = agent(address, "/status")["pid"]
    next(child for child in cluster.children("ggml-rpc-server") if child.pid == pid).send_signal(number)


def recoveries(cluster: Cluster) -> list[dict[str, Any]]:
    return [entry["recovery"] for entry in history(cluster) if entry["recovery"]]


class Stream(threading.Thread):
    """One long answer, read in the background."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster
        self.begun = threading.Event()
        self.text, self.comments, self.is_whole = "", list[str](), False

    def run(self) -> None:
        body = {**LONG, "stream": True}
        with httpx.stream("POST", f"{self._cluster.url}/completion", json=body, timeout=120, trust_env=False) as answer:
            for line in answer.iter_lines():
                if line.startswith(":"):
                    self.comments.append(line)
                elif line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    self.text += event.get("content", "")
                    self.is_whole |= event.get("stop") is True
                    if len(self.text) > 40:
                        self.begun.set()

    def __enter__(self) -> "Stream":
        self.start()
        assert self.begun.wait(DEADLINE_S), "no text came"
        return self

    def __exit__(self, *_: object) -> None:
        self.join(DEADLINE_S * 2)
        assert not self.is_alive(), "the stream never ended"


def test_a_failed_backend_proves_itself_before_it_is_used_again(tmp_path: Path):
    with demo(tmp_path, *EXACT, backends=3) as cluster:
        before, victim = planned(cluster), sorted(planned(cluster))[0]
        signal_worker(cluster, victim, signal.SIGKILL)
        eventually(lambda: recoveries(cluster), "a recovery", 30)
        eventually(cluster.is_ready, "readiness", 30)
        assert planned(cluster) == before, "it came back at once, so nobody is left out"
        assert told(cluster, f"{victim} is in quarantine (0 of 3 probes answered)")
        assert told(cluster, f"{victim} has answered its probes")
        assert backends(cluster)[victim]["quarantine"] is None
        fault = next(entry["fault"] for entry in history(cluster) if entry["fault"])
        assert (fault["backend"], fault["detected_after_s"] is not None) == (victim, True)
        (recovery,) = recoveries(cluster)
        assert recovery["backend"] == victim
        parts = [recovery[name] for name in ("fence_s", "wait_s", "load_s", "first_token_s")]
        assert all(part > 0 for part in parts)
        assert sum(parts) <= recovery["total_s"] + 0.1


def test_without_the_lost_backend_it_goes_on_and_takes_it_in_when_it_returns(tmp_path: Path):
    options = ("--rejoin-wait-s", "1", "--rejoin", "now")
    with demo(tmp_path, *EXACT, *options) as cluster:
        expected, everybody = cluster.complete("The little fox"), planned(cluster)
        victim, other = sorted(everybody)
        agent(victim, "/stop")
        eventually(lambda: cluster.is_ready() and planned(cluster) == {other}, "a plan without it", 30)
        assert cluster.complete("The little fox") == expected
        row = eventually(lambda: backends(cluster)[victim]["quarantine"], "its quarantine", 10)
        assert row["needed"] == 3
        assert backends(cluster)[victim]["state"] == "down"
        agent(victim, "/start")
        eventually(lambda: cluster.is_ready() and planned(cluster) == everybody, "its return", 60)
        assert told(cluster, f"{victim} can be used now")
        assert cluster.complete("The little fox") == expected


def test_a_new_plan_costs_a_running_stream_nothing_but_a_pause(tmp_path: Path):
    with demo(tmp_path, *EXACT) as cluster:
        with Stream(cluster) as uncut:
            pass
        with Stream(cluster) as stream:
            answer = cluster.post("/cluster/replan", {})
        assert (answer.status_code, answer.json()) == (202, {"status": "replanning"})
        assert uncut.is_whole
        assert stream.is_whole
        assert any(comment.startswith(": resumed") for comment in stream.comments)
        assert stream.text == uncut.text
        assert recoveries(cluster)[0]["cause"] == "requested"


def test_backends_are_removed_and_added_under_a_stream(tmp_path: Path):
    with demo(tmp_path, *EXACT) as cluster:
        everybody = planned(cluster)
        victim, other = sorted(everybody)
        with Stream(cluster) as stream:
            removed = cluster.post("/cluster/backends", {"remove": victim})
        assert (removed.status_code, removed.json()["status"]) == (202, "removed")
        assert removed.json()["persisted"] is False
        assert stream.is_whole
        assert planned(cluster) == {other}
        assert cluster.get("/cluster").json()["listed"] == [other]
        assert cluster.post("/cluster/backends", {"remove": victim}).json()["status"] == "unchanged"

        last = cluster.post("/cluster/backends", {"remove": other})
        assert last.status_code == 409
        assert "is the last backend" in last.json()["error"]["message"]
        stranger = cluster.post("/cluster/backends", {"remove": "127.0.0.1:1"})
        assert stranger.status_code == 409
        assert "127.0.0.1:1 is not among the backends" in stranger.json()["error"]["message"]
        dead = cluster.post("/cluster/backends", {"add": "127.0.0.1:1"})
        assert dead.status_code == 409
        assert "127.0.0.1:1 is down" in dead.json()["error"]["message"]

        added = cluster.post("/cluster/backends", {"add": victim})
        assert (added.status_code, added.json()["status"]) == (202, "added")
        assert cluster.post("/cluster/backends", {"add": victim}).json()["status"] == "unchanged"
        eventually(lambda: cluster.is_ready() and planned(cluster) == everybody, "the plan over both", 30)
        assert cluster.complete("The little fox")


def test_a_drained_server_finishes_its_streams_and_can_be_opened_again(tmp_path: Path):
    with demo(tmp_path, *EXACT) as cluster:
        with Stream(cluster) as stream:
            assert cluster.post("/cluster/drain", {}).json() == {"status": "draining", "running": 1, "waiting": 0}
            refused = cluster.post("/completion", LONG)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
            assert not cluster.is_ready()
            assert cluster.get("/cluster").json()["admission"]["status"] == "draining"
        assert stream.is_whole
        assert stream.comments == []
        assert cluster.post("/cluster/drain", {}).json()["status"] == "drained"
        opened = httpx.delete(f"{cluster.url}/cluster/drain", timeout=DEADLINE_S, trust_env=False)
        assert opened.json()["status"] == "open"
        assert cluster.complete("The little fox")


def test_sigterm_lets_running_streams_finish_and_refuses_new_ones(tmp_path: Path):
    with demo(tmp_path, *EXACT, "--drain-s", "60") as cluster:
        with Stream(cluster) as stream:
            cluster.process.send_signal(signal.SIGTERM)
            refused = eventually(lambda: _refusal(cluster), "a refusal", 5)
            assert refused.headers["retry-after"] == "10"
        assert stream.is_whole
        assert cluster.process.wait(30) == 0


def _refusal(cluster: Cluster) -> httpx.Response | None:
    answer = cluster.post("/completion", {**LONG, "n_predict": 1})
    return answer if answer.status_code == 503 else None


def test_a_stopped_worker_is_found_before_the_silence_is_long_enough(tmp_path: Path):
    with demo(tmp_path, *EXACT, "--stopped-s", "3", "--silence-s", "120") as cluster:
        victim = sorted(planned(cluster))[0]
        with Stream(cluster) as stream:
            signal_worker(cluster, victim, signal.SIGSTOP)
        assert stream.is_whole
        assert any(comment.startswith(": resumed") for comment in stream.comments)
        fault = next(entry["fault"] for entry in history(cluster) if entry["fault"])
        assert (fault["kind"], fault["backend"], fault["deadline_s"]) == ("heartbeat", victim, 3.0)
        assert 3.0 <= fault["detected_after_s"] < 30.0
        assert told(cluster, f"the worker of {victim} is stopped")
        assert agent(victim, "/status")["process"] != "stopped", "its agent has started another one"


def test_a_worker_that_is_stopped_for_a_moment_stays(tmp_path: Path):
    with demo(tmp_path, *EXACT, "--stopped-s", "30", "--silence-s", "60") as cluster:
        victim = sorted(planned(cluster))[0]
        with Stream(cluster) as stream:
            signal_worker(cluster, victim, signal.SIGSTOP)
            eventually(lambda: told(cluster, f"the worker of {victim} is stopped"), "a note of it", 15)
            signal_worker(cluster, victim, signal.SIGCONT)
        assert stream.is_whole
        assert stream.comments == []
        eventually(lambda: told(cluster, f"the worker of {victim} goes on"), "a note of it", 15)
        assert cluster.get("/cluster").json()["restarts"] == 0


def test_who_is_needed_is_waited_for_and_cannot_be_removed(tmp_path: Path):
    """Each of two backends lends too little for the whole model."""
    with demo(tmp_path, "--mem", "42", "--ctx-size", "4096", "--rejoin-wait-s", "0.5") as cluster:
        expected, everybody = cluster.complete("The little fox"), planned(cluster)
        victim = sorted(everybody)[0]
        refused = cluster.post("/cluster/backends", {"remove": victim})
        assert refused.status_code == 409
        assert f"{victim} is needed: the model does not fit: " in refused.json()["error"]["message"]
        assert cluster.is_ready(), "what is refused changes nothing"

        agent(victim, "/stop")
        progress = eventually(lambda: _progress(cluster, "does not fit on who is left"), "a word about it", 20)
        assert f"{victim} is down" in progress
        assert "MiB short" in progress
        assert cluster.get("/readyz").json()["missing"] == [victim]
        agent(victim, "/start")
        eventually(cluster.is_ready, "its return", 30)
        assert planned(cluster) == everybody
        assert cluster.complete("The little fox") == expected


def _progress(cluster: Cluster, text: str) -> str | None:
    progress = str(cluster.get("/cluster").json()["progress"])
    return progress if text in progress else None


def test_a_backend_that_holds_nothing_is_not_connected_to(tmp_path: Path):
    with demo(tmp_path, "--strategy", "single_device") as cluster:
        seen = cluster.get("/cluster").json()
        (used,) = planned(cluster)
        assert seen["argv"][seen["argv"].index("--rpc") + 1] == seen["links"][0]["address"]
        assert [link["endpoint"] for link in seen["links"]] == [used]
        idle = next(address for address in backends(cluster) if address != used)
        signal_worker(cluster, idle, signal.SIGKILL)
        eventually(lambda: agent(idle, "/status")["restarts"] == 1, "its restart", 20)
        assert cluster.complete("The little fox")
        assert cluster.get("/cluster").json()["restarts"] == 0, "its end costs nobody anything"


def test_an_engine_that_stands_still_while_loading_is_given_up(tmp_path: Path):
    real = find_engine()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / real.worker.name).symlink_to(real.worker)
    hanging = programs / real.server.name
    hanging.write_text(f'#!/bin/sh\ncase " $* " in *" --port "*) exec sleep 1000;; esac\nexec {real.server} "$@"\n')
    hanging.chmod(0o755)
    port = free_port()
    options = ("demo", "--port", str(port), "--model", str(DEMO), "--engine-dir", str(programs))
    limits = ("--load-silence-s", "2", "--breaker-failures", "2", "--backoff-s", "0.1")
    with command(tmp_path, port, *options, *limits) as cluster:
        assert cluster.process.wait(DEADLINE_S) == 1
        text = cluster.text()
    assert "gave up after 2 attempts: silent while loading: no byte on any link and no line of the log for 2." in text
    assert "127.0.0.1:" in text
    assert " has 0 of 1 MiB" in text
    assert "Traceback" not in text


def test_the_backoff_is_checked_before_anything_starts(tmp_path: Path):
    with command(tmp_path, free_port(), "demo", "--backoff-s", "9", "--backoff-max-s", "3") as cluster:
        assert cluster.process.wait(DEADLINE_S) == 2
        assert "APP_BACKOFF_S=9 is more than APP_BACKOFF_MAX_S=3: set both" in cluster.text()


def test_nobody_waits_for_a_backend_that_flaps(tmp_path: Path):
    with demo(tmp_path, *EXACT, "--rejoin-wait-s", "30") as cluster:
        victim, other = sorted(planned(cluster))
        for n_failures in (1, 2, 3):
            signal_worker(cluster, victim, signal.SIGKILL)
            eventually(lambda: len(recoveries(cluster)) == n_failures, "a recovery", 30)  # noqa: B023
            eventually(cluster.is_ready, "readiness", 30)
            assert planned(cluster) == ({other} if n_failures == 3 else {victim, other})
        assert backends(cluster)[victim]["quarantine"]["strikes"] == 3
        assert recoveries(cluster)[-1]["wait_s"] < 30
        assert cluster.complete("The little fox")

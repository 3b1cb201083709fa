"""The worker's figures in JSON."""

import os
import subprocess
import sys

from rpc_wrapper.agent.report import Reporter
from rpc_wrapper.usage import GPU


def test_a_running_process():
    reporter = Reporter("box:50052")
    body = reporter.report(os.getpid(), is_up=True, gpus=(GPU(0, "G", 1, 2, None),))
    assert body is not None
    assert list(body) == ["worker_id", "status", "memory", "cpu", "io", "gpu", "uptime_seconds"]
    assert (body["worker_id"], body["status"]) == ("box:50052", "online")
    assert 0 < body["memory"]["rss_mb"] <= body["memory"]["vms_mb"]
    assert body["cpu"]["usage_percent"] > 0
    assert body["cpu"]["num_threads"] >= 1
    assert body["uptime_seconds"] > 0
    assert body["gpu"][0]["total_bytes"] == 2
    again = reporter.report(os.getpid(), is_up=False)
    assert again is not None
    assert (again["cpu"]["usage_percent"], again["status"]) == (body["cpu"]["usage_percent"], "offline")


def test_another_process_starts_anew():
    reporter = Reporter("w")
    reporter.report(os.getpid(), is_up=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        body = reporter.report(child.pid, is_up=True)
        child.kill()
    assert body is not None
    assert body["uptime_seconds"] < 60


def test_no_process_no_figures():
    assert Reporter("w").report(None, is_up=False) is None
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert Reporter("w").report(child.pid, is_up=False) is None

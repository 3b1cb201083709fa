"""``bench`` with a cluster of its own: started cold and warm, measured, broken, and written down in every form."""

import csv
import json
import os
import subprocess
import sys

from tests.engine.cluster import DEMO


def test_a_cluster_is_started_measured_and_broken(tmp_path):
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "md", "svg")}
    command = [
        sys.executable,
        "-m",
        "rpc_wrapper",
        "bench",
        "--cluster",
        f"two=--backends 2 --model {DEMO} --ctx-size 256",
    ]
    sizes = [
        "--streams",
        "2",
        "--prompt-tokens",
        "8",
        "--n-predict",
        "12",
        "--repeats",
        "2",
        "--starts",
        "1",
        "--losses",
        "1",
    ]
    outputs = ["--json", files["json"], "--csv", files["csv"], "--markdown", files["md"], "--charts", files["svg"]]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("APP_", "LLAMA_"))}
    done = subprocess.run(
        [*command, *sizes, *map(str, outputs)], env=environ, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    values = json.loads(files["json"].read_text())
    seconds = values["lifetimes_s"]["two"]
    assert set(seconds) == {"cold start", "warm start", "a worker is killed", "llama-server is killed"}
    assert all(each > 0 for times in seconds.values() for each in times)
    assert "blocks 0-3" in values["environment"]["plans"]["two"]
    [summary] = values["summaries"]
    assert {use["name"] for use in summary["nodes"]} == {"gateway", "llama-server", "worker 1", "worker 2"}
    assert summary["figures"]["bytes_per_token"]["median"] > 0
    assert len(list(csv.DictReader(files["csv"].read_text().splitlines()))) == 2
    assert "| two: a worker is killed |" in files["md"].read_text()
    assert "<svg" in files["svg"].read_text()

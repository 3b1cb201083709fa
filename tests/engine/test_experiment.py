"""An experiment as a user runs it: real clusters, a row per cell, and going on after an interruption."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.engine.cluster import DEMO, eventually

EXPERIMENT = f"""
name: small
about: A small one.
models:
  demo: {{file: {DEMO}}}
workloads:
  tokens: {{prompt_tokens: 8, n_predict: 12}}
  chat: {{kind: chat, prompt_tokens: 30, n_predict: 6, streams: 2}}
  vectors: {{kind: embeddings, prompt_tokens: 8}}
  steps: {{kind: steps, n_predict: 3, cache_prompt: true, texts: ["Once upon a time"]}}
defaults: {{model: demo, quant: q8_0, workload: tokens, strategy: uniform, ctx_size: 256}}
cells:
  - {{name: both, nodes: 2, main: computes, limits: {{worker: {{cpus: 1, mem_mib: 256}}}}}}
  - {{name: talk, nodes: 1, workload: chat, latency_s: [0.001, 0.002]}}
  - {{name: vectors, nodes: 1, workload: vectors, keep_layers: 4}}
  - {{name: steps, nodes: 1, workload: steps, latency_on: token, latency_s: [0.001, 0.002]}}
  - {{name: too small, nodes: 1, limits: {{worker: {{mem_mib: 1}}}}}}
repeats: 2
charts:
  - {{figure: throughput, over: name}}
"""


def command(folder: Path, *arguments: str) -> list[str]:
    file = folder / "small.yaml"
    file.write_text(EXPERIMENT)
    options = ["--out", str(folder / "out"), "--models", str(folder / "models"), *arguments]
    return [sys.executable, "-m", "rpc_wrapper", "experiment", str(file), *options]


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("APP_", "LLAMA_"))}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments), env=environ(), capture_output=True, text=True, timeout=110, check=False
    )


def rows(folder: Path) -> dict[str, Any]:
    lines = (folder / "out" / "rows.jsonl").read_text().splitlines()
    return {row["cell"]["name"]: row for row in map(json.loads, lines)}


def test_every_cell_becomes_a_row(tmp_path):
    done = run(tmp_path)
    found = rows(tmp_path)
    assert set(found) == {"both", "talk", "vectors", "steps", "too small"}
    assert done.returncode == 1, done.stderr  # one of them cannot be
    assert "1 of 5 cells could not be measured" in done.stderr
    assert "Traceback" not in done.stderr
    assert "does not fit" in found["too small"]["error"]
    assert {name for name, row in found.items() if not row["error"]} == {"both", "talk", "vectors", "steps"}
    assert "CPU: blocks 0-3; 127.0.0.1:" in found["both"]["plan"]
    assert {use["name"] for use in found["both"]["nodes"]} == {"gateway", "llama-server", "worker 1"}
    assert found["both"]["figures"]["bytes_per_token"]["median"] > 0
    assert "blocks 0-3 and output" in found["vectors"]["plan"]
    assert found["vectors"]["figures"]["prompt"]["median"] > 0
    out = tmp_path / "out"
    assert [line["cell"] for line in csv.DictReader((out / "results.csv").read_text().splitlines())] == list(found)
    assert "| both |" in (out / "results.md").read_text()
    assert "<svg" in (out / "throughput-over-name.svg").read_text()
    assert len(json.loads((out / "results.json").read_text())["rows"]) == 5


def test_an_interrupted_run_goes_on_with_what_is_missing(tmp_path):
    chosen = ["--only", "workload=tokens", "--only", "nodes=2", "--charts", "none"]
    assert run(tmp_path, *chosen).returncode == 0
    first = (tmp_path / "out" / "rows.jsonl").read_text()
    with subprocess.Popen(command(tmp_path, "--charts", "none"), env=environ(), stderr=subprocess.DEVNULL) as process:
        eventually(lambda: psutil.Process(process.pid).children(), "the start of the second cell")
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    eventually(lambda: not any(child.is_running() for child in family), "the end of every child", 10)
    assert (tmp_path / "out" / "rows.jsonl").read_text() == first
    done = run(tmp_path, "--only", "keep_layers=4", "--only", "workload=vectors", "--charts", "none")
    assert done.returncode == 0, done.stderr
    assert list(rows(tmp_path)) == ["both", "vectors"]
    assert (tmp_path / "out" / "rows.jsonl").read_text().startswith(first)

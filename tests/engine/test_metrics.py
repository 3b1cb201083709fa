"""Every metric that is documented, drawn or alerted on is exported by a real cluster, and nothing else is."""

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.engine.cluster import DEADLINE_S, ROOT, Cluster, demo, eventually

pytestmark = pytest.mark.engine
MONITORING = ROOT / "deploy" / "monitoring"
NAME = re.compile(r"\b(?:rpcw_[a-z_]+|llamacpp:[a-z_]+)\b")
WITHOUT_GPU = {"rpcw_gpu_busy_ratio", "rpcw_gpu_memory_used_bytes", "rpcw_gpu_memory_total_bytes"}
PROMETHEUS_LABELS = {"instance", "job", "le"}
SUFFIXES = ("_bucket", "_sum", "_count")

Labels = dict[str, set[str]]


def samples(text: str) -> Labels:
    """Return every sample's name with the names of its labels."""
    found: Labels = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def family_of(name: str) -> str:
    """Return what a histogram's sample is called in the documentation."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def agents(cluster: Cluster) -> list[str]:
    backends = cluster.get("/cluster").json()["backends"]
    return [f"http://127.0.0.1:{int(row['address'].split(':')[1]) + 1}" for row in backends]


def restarts(cluster: Cluster) -> float:
    found = re.findall(r"^rpcw_restarts_total\{.*\} (\S+)$", cluster.get("/metrics").text, re.MULTILINE)
    return sum(map(float, found))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Labels]:
    """Scrape a gateway and its agents after some work and the loss of a worker."""
    with demo(tmp_path_factory.mktemp("metrics")) as cluster:
        cluster.post("/completion", {"prompt": "Once", "n_predict": 8, "stream": True})
        os.kill(cluster.children("ggml-rpc-server")[0].pid, signal.SIGKILL)
        eventually(lambda: restarts(cluster) >= 1, "the loss of a worker")
        eventually(cluster.is_ready, "recovery")
        cluster.complete("Once", 4)
        gateway = samples(cluster.get("/metrics").text)
        texts = [httpx.get(f"{agent}/metrics", timeout=DEADLINE_S, trust_env=False).text for agent in agents(cluster)]
    assert len(texts) == 2
    return {"gateway": gateway, "agent": samples(texts[0]) | samples(texts[1])}


def documented(title: str) -> set[str]:
    """Return the names in the table under a heading."""
    section = (ROOT / "docs" / "metrics.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in NAME.findall(row.split("|")[1])}


@pytest.mark.parametrize(("part", "title"), [("gateway", "The gateway"), ("agent", "An agent")])
def test_the_documented_metrics_are_those_exported(exported: dict[str, Labels], part: str, title: str) -> None:
    ours = {family_of(name) for name in exported[part] if name.startswith("rpcw_")}
    assert ours | WITHOUT_GPU == documented(title)


def test_the_engines_metrics_carry_their_group(exported: dict[str, Labels]) -> None:
    engine = {name: labels for name, labels in exported["gateway"].items() if name.startswith("llamacpp:")}
    assert len(engine) >= 12
    assert all("group" in labels for labels in engine.values())


def expressions() -> list[tuple[str, str]]:
    """Return every expression that the alerts and the dashboard use, with where it stands."""
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    found = [(rule["alert"], rule["expr"]) for rule in rules]
    for panel in board["panels"]:
        found += [(panel["title"], target["expr"]) for target in panel.get("targets", [])]
    return found + [(each["name"], each["expr"]) for each in board["annotations"]["list"]]


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_what_is_drawn_and_alerted_on_is_exported(exported: dict[str, Labels], where: str, expression: str) -> None:
    ready = expression.replace("$__rate_interval", "5m").replace("$instance", "x")
    promql_parser.parse(ready)  # raises ValueError where it is not PromQL
    known: Labels = {name: set() for name in WITHOUT_GPU} | exported["agent"]
    for name, labels in exported["gateway"].items():
        known[name] = known.get(name, set()) | labels
    names = set(NAME.findall(ready)) or {"up"}
    assert names <= known.keys() | {"up"}
    labels = PROMETHEUS_LABELS.union(*(known.get(name, set()) for name in names))
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", ready) for label in group.split(",")}
    matched = set(re.findall(r"[{,]\s*([a-z_]+)\s*[=!]", ready))
    assert grouped | matched <= labels


def test_the_alerts_say_what_and_what_to_do() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
    assert len({rule["alert"] for rule in rules}) == len(rules)


def test_the_scrape_configuration_reads_the_rules() -> None:
    config: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert [Path(name).name for name in config["rule_files"]] == ["alerts.yml"]
    assert {job["job_name"] for job in config["scrape_configs"]} == {"rpc-wrapper-gateway", "rpc-wrapper-agents"}


def test_the_dashboards_panels_do_not_overlap() -> None:
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_engines_metrics_are_absent_while_it_is_down(tmp_path: Path) -> None:
    with demo(tmp_path, backends=1) as cluster:
        assert "llamacpp:" in cluster.get("/metrics").text
        os.kill(cluster.children("ggml-rpc-server")[0].pid, signal.SIGSTOP)
        os.kill(cluster.children("llama-server")[0].pid, signal.SIGSTOP)
        began = time.monotonic()
        text = cluster.get("/metrics").text
        assert time.monotonic() - began < DEADLINE_S / 4
        assert "llamacpp:" not in text
        assert "rpcw_backend_up" in text
        os.kill(cluster.children("llama-server")[0].pid, signal.SIGCONT)
        os.kill(cluster.children("ggml-rpc-server")[0].pid, signal.SIGCONT)
        eventually(lambda: "llamacpp:" in cluster.get("/metrics").text, "the engine's metrics again")

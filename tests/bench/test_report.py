"""What is written down."""

import csv
import json
from dataclasses import replace

from rpc_wrapper.bench.report import Environment, Result, table, to_charts, to_csv, to_json, to_markdown
from rpc_wrapper.bench.stats import NodeUse, Round
from rpc_wrapper.bench.stream import Answer

ENVIRONMENT = Environment(
    command="rpc-wrapper bench --repeats 2",
    cpu="A Processor",
    cores=2.0,
    memory_mib=4096,
    system="Linux 6",
    python="3.11.9",
    engine="b1-abc",
    git_revision="1234567",
    date="2026-01-02",
    busy_before=0.03,
    busy_after=0.5,
)


def one(target: str, repeat: int, seconds: float, workload: str = "w") -> Round:
    answer = Answer(0.0, tuple(seconds * n for n in range(1, 5)), prompt_tokens=8)
    return Round(target, workload, repeat, (answer,))


RESULT = Result(
    (one("direct", 0, 1), one("ours", 0, 2), one("ours", 1, 2), one("direct", 1, 1), one("direct", 0, 5, "v"))
)


def test_the_first_target_of_a_workload_is_its_baseline():
    assert [(c.workload, c.target, c.baseline) for c in RESULT.comparisons()] == [("w", "ours", "direct")]
    assert [(s.workload, s.target, s.repeats) for s in RESULT.summaries()] == [
        ("w", "direct", 2),
        ("w", "ours", 2),
        ("v", "direct", 1),
    ]


def test_markdown_shows_targets_ratios_and_where_it_was_measured():
    text = to_markdown(RESULT, ENVIRONMENT)
    assert "**w** (2 repeats)" in text
    assert "| ours / direct | 0.500 [0.500, 0.500] |" in text
    assert "+1000.000 [+1000.000, +1000.000]" in text
    assert "A Processor, 2 cores, 4096 MiB, Linux 6, Python 3.11.9, llama.cpp b1-abc" in text
    assert "3% busy with other things before and 50% after" in text
    assert text.endswith("\n\n    rpc-wrapper bench --repeats 2\n")


def test_every_row_of_a_table_has_as_many_cells_as_its_head():
    tables = [line.count("|") for line in to_markdown(RESULT, ENVIRONMENT).splitlines() if line.startswith("| ")]
    assert set(tables) == {10, 7}  # nine columns, and six of a comparison


def test_json_holds_every_round():
    value = json.loads(json.dumps(to_json(RESULT, ENVIRONMENT)))
    assert [(r["target"], r["repeat"], r["throughput"]) for r in value["rounds"][:2]] == [
        ("direct", 0, 1.0),
        ("ours", 0, 0.5),
    ]
    assert value["environment"]["command"] == "rpc-wrapper bench --repeats 2"
    assert value["comparisons"][0]["ratios"]["throughput"]["median"] == 0.5


def test_a_table():
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_csv_has_a_line_per_round_and_names_with_units():
    rows = list(csv.DictReader(to_csv(RESULT).splitlines()))
    assert [(row["target"], row["repeat"]) for row in rows[:2]] == [("direct", "0"), ("ours", "0")]
    assert float(rows[0]["ttft_ms"]) == 1000.0
    assert rows[0]["bytes_per_token"] == ""


def test_a_chart_has_a_bar_per_target_and_a_hole_where_nothing_was_measured():
    throughput, *_ = to_charts(RESULT)
    assert throughput.positions == ("w", "v")
    direct, ours = throughput.series["direct"], throughput.series["ours"]
    assert [point and point.value for point in direct] == [1.0, 0.2]
    assert [point and point.value for point in ours] == [0.5, None]


def test_processes_and_link_bytes_are_shown_where_they_are_known():
    nodes = tuple(NodeUse("worker 1", load, peak) for load, peak in ((90.0, 2**20),))
    more = tuple(NodeUse("worker 1", load, peak) for load, peak in ((110.0, 2**21),))
    first = replace(one("ours", 0, 1), nodes=nodes, link_bytes=8000)
    text = to_markdown(Result((first, replace(one("ours", 1, 1), nodes=more, link_bytes=8000))), ENVIRONMENT)
    assert "| ours: worker 1 | 100 | 2 |" in text
    assert "| 2.0 |" in text  # 8000 bytes for four tokens


def test_plans_stand_beside_the_environment():
    text = to_markdown(RESULT, replace(ENVIRONMENT, plans={"ours": "memory, split by layer: a:1: blocks 0-7"}))
    assert "- ours: memory, split by layer: a:1: blocks 0-7" in text

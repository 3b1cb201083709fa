"""What an experiment's tables and charts show."""

import csv

import pytest

from rpc_wrapper.errors import ConfigError
from rpc_wrapper.experiment.report import chart_of, parse_chart, seed_markdown, to_csv, to_markdown
from rpc_wrapper.experiment.spec import ChartSpec, Seed, SeedRow, read_spec
from tests.bench.test_report import ENVIRONMENT
from tests.experiment.rows import row
from tests.experiment.test_spec import FILE

ROWS = [
    row(10.0, nodes=1),
    row(8.0, nodes=2),
    row(4.0, nodes=1, quant="f32"),
    row(None, "it does not fit: 3 MiB short", nodes=2, quant="f32"),
]
SEED = Seed(
    source="Somebody",
    hardware="a machine",
    baseline="one",
    rows=(
        SeedRow(what="one", cell="m-q4_0-1-1", figures={"generation": 100.0}),
        SeedRow(what="two", cell="m-q4_0-2-1", figures={"generation": 50.0}),
    ),
)


def test_a_table_shows_what_differs_and_says_what_does_not():
    text = to_markdown(read_spec(FILE), ROWS, ENVIRONMENT, ["a.svg"])
    assert "| cell | quant | nodes | start s | generation tok/s |" in text
    assert "| m-q4_0-2-1 | q4_0 | 2 | 2.5 | 8.00 | 95 / 50 | 500 / 70 |" in text
    assert "In every cell: workload w, model m, main serves, threads 1" in text
    assert "- m-f32-2-1: it does not fit: 3 MiB short" in text
    assert "![a.svg](a.svg)" in text
    assert ENVIRONMENT.command in text


def test_published_figures_stand_beside_ours_each_against_its_own_baseline():
    text = seed_markdown(SEED, ROWS)
    assert "Beside the figures of Somebody (a machine):" in text
    assert "| two, generation tok/s | 50.00 | 8.00 | 0.50 | 0.80 |" in text


def test_without_a_baseline_there_are_no_ratios():
    text = seed_markdown(SEED.model_copy(update={"baseline": None}), ROWS)
    assert "| two, generation tok/s | 50.00 | 8.00 |" in text


def test_a_cell_that_failed_leaves_a_hole_beside_the_published_figure():
    missing = SeedRow(what="f", cell="m-f32-2-1", figures={"generation": 9.0})
    assert "| f, generation tok/s | 9.00 | - | 0.09 | - |" in seed_markdown(
        SEED.model_copy(update={"rows": (*SEED.rows, missing)}), ROWS
    )


def test_csv_has_a_line_per_cell():
    lines = list(csv.DictReader(to_csv(ROWS).splitlines()))
    assert [line["cell"] for line in lines] == ["m-q4_0-1-1", "m-q4_0-2-1", "m-f32-1-1", "m-f32-2-1"]
    assert (lines[0]["generation"], lines[0]["generation_low"], lines[0]["worker 1 cpu_percent"]) == (
        "10.0",
        "9.0",
        "50.0",
    )
    assert lines[3]["error"] == "it does not fit: 3 MiB short"


def test_a_chart_over_one_axis_by_another():
    made = chart_of(parse_chart("generation over nodes by quant"), list(reversed(ROWS)))
    assert made.positions == ("1", "2")
    values = {name: [point and point.value for point in points] for name, points in made.series.items()}
    assert values == {"f32": [4.0, None], "q4_0": [10.0, 8.0]}


def test_a_chart_of_chosen_cells():
    made = chart_of(ChartSpec(figure="start_s", over="name", where={"nodes": 1}), ROWS)
    assert made.positions == ("m-q4_0-1-1", "m-f32-1-1")
    assert list(made.series) == ["all"]


def test_words_stay_in_the_order_of_the_cells():
    rows = [row(1.0, strategy=name) for name in ("uniform", "memory")]
    assert chart_of(parse_chart("generation over strategy"), rows).positions == ("uniform", "memory")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("generation", "is malformed"),
        ("speed over nodes", "names speed"),
        ("generation over moons by quant", "names moons"),
        ("generation over nodes by x", "names x"),
    ],
)
def test_a_chart_that_cannot_be_says_what_can(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_chart(text)

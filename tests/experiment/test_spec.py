"""Files that are right, and a sentence for each way to be wrong."""

from typing import Any

import pytest

from rpc_wrapper.bench.workload import Kind
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.experiment.spec import merge, read_spec

FILE: dict[str, Any] = {
    "name": "n",
    "about": "a",
    "models": {"m": {"shape": "demo-like"}},
    "workloads": {"w": {"n_predict": 8}},
    "defaults": {"model": "m", "workload": "w"},
    "matrix": {"nodes": [1, 2]},
    "quick": {"workloads": {"w": {"n_predict": 2}}, "matrix": {"nodes": [1]}},
}


def test_a_matrix_and_cells_of_their_own():
    what = read_spec(FILE | {"cells": [{"name": "more", "nodes": 3}]})
    assert [cell.label for cell in what.cells] == ["m-q4_0-1-1", "m-q4_0-2-1", "more"]
    assert what.workloads["w"].workload().n_predict == 8


def test_quick_changes_what_it_names():
    what = read_spec(FILE, quick=True)
    assert len(what.cells) == 1
    assert what.workloads["w"].n_predict == 2
    assert what.name == "n"


def test_merging_replaces_all_but_mappings():
    assert merge({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}, "d": 2}


def test_all_kinds_of_workload_are_understood():
    workloads = {kind: {"kind": kind, "texts": ["t"] if kind == "steps" else []} for kind in Kind}
    what = read_spec(FILE | {"workloads": workloads, "cells": [], "defaults": {"model": "m", "workload": "chat"}})
    assert what.workloads["chat"].workload().kind is Kind.CHAT


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"matrix": {}}, "has no cells"),
        ({"defaults": {"model": "x", "workload": "w"}}, "model 'x' is not among m"),
        ({"defaults": {"model": "m", "workload": "x"}}, "workload 'x' is not among w"),
        ({"models": {"m": {"shape": "x"}}}, "shape 'x' is unknown"),
        ({"models": {"m": {}}}, "either a shape or a file"),
        ({"models": {"m": {"shape": "demo-like", "file": "f"}}}, "either a shape or a file"),
        ({"matrix": {"quant": ["q9"]}}, "quant 'q9' is unknown"),
        ({"matrix": {"nodes": ["many"]}}, "nodes: Input should be a valid integer"),
        ({"cells": [{"nodes": 1}]}, "two cells are called m-q4_0-1-1"),
        ({"workloads": {"w": {"streams": 0}}}, "streams 0"),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"charts": [{"figure": "speed", "over": "nodes"}]}, "a chart names speed"),
        (
            {"seed": {"source": "s", "hardware": "h", "rows": [{"what": "w", "cell": "x", "figures": {}}]}},
            "cell 'x'",
        ),
    ],
)
def test_a_mistake_is_one_sentence(changes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        read_spec(FILE | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "text"])
def test_no_mapping_is_no_experiment(value):
    with pytest.raises(ConfigError, match="no mapping"):
        read_spec(value)

"""Pictures: the right kind of file, the words of the chart in it, the same bytes again."""

import sys

import pytest

from rpc_wrapper.bench.chart import Chart, Point
from rpc_wrapper.bench.draw import check, draw
from rpc_wrapper.errors import ConfigError

LINES = Chart("Generation", "tokens/s", ("1", "2", "8"), {"q4_0": (Point(5, 4, 6), None, Point(3, 3, 3))}, "nodes")
BARS = Chart("Load", "s", ("layer", "tensor"), {"a": (Point(1, 1, 2), Point(2, 1, 2)), "b": (None, Point(1, 1, 1))})


def test_svg_is_the_same_every_time_and_holds_a_line_per_series(tmp_path):
    one, two = tmp_path / "1.svg", tmp_path / "2.svg"
    for path in (one, two):
        draw([LINES, BARS], path)
    assert one.read_text() == two.read_text()
    assert one.read_text().startswith("<?xml")


def test_png(tmp_path):
    draw([BARS], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_measured_draws_nothing(tmp_path):
    draw([Chart("t", "u", ("1",), {"a": (None,)})], tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match="svg or png"):
        check("gif", "leave it")


def test_a_missing_matplotlib_is_one_sentence_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'rpc-wrapper\[charts\]', or leave it"):
        check("svg", "leave it")

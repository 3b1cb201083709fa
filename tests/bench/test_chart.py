"""Charts as values."""

from rpc_wrapper.bench.chart import Chart, Point


def test_numbers_make_an_axis_and_words_do_not():
    assert Chart("t", "u", ("1", "2.5"), {}).numbers == (1.0, 2.5)
    assert Chart("t", "u", ("1", "two"), {}).numbers is None


def test_a_chart_without_a_point_is_empty():
    assert Chart("t", "u", ("1",), {"a": (None,)}).is_empty
    assert not Chart("t", "u", ("1",), {"a": (Point(1, 1, 1),)}).is_empty

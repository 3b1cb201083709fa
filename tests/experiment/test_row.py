"""Rows survive being written down, and interruptions."""

from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.experiment.row import key_of, read_rows
from rpc_wrapper.experiment.spec import read_spec
from tests.experiment.rows import row
from tests.experiment.test_spec import FILE


@given(st.floats(0, 1e9), st.integers(1, 8), st.sampled_from(["q4_0", "f32"]), st.none() | st.text())
def test_a_row_comes_back_as_it_was(value, nodes, quant, error):
    one = row(value, error, nodes=nodes, quant=quant)
    assert read_rows([one.to_json()]) == {one.key: one}


def test_a_line_that_was_cut_is_passed_over():
    whole = row(1.0)
    text = row(2.0, nodes=3).to_json()
    assert read_rows([whole.to_json(), text[: len(text) // 2], "", "[]", "{}"]) == {whole.key: whole}


def test_the_last_row_of_a_cell_counts():
    first, second = row(1.0), row(2.0)
    assert read_rows([first.to_json(), second.to_json()]) == {second.key: second}


def test_the_start_is_a_figure_too():
    start = row(1.0).figure("start_s")
    assert start is not None
    assert start.median == 2.5
    assert row(1.0).figure("prompt") is None


def test_another_question_or_place_is_another_measurement():
    what, quick = read_spec(FILE), read_spec(FILE, quick=True)
    one, two = what.cells
    keys = {key_of(one, what, ""), key_of(two, what, ""), key_of(one, quick, ""), key_of(one, what, "a:1")}
    assert len(keys) == 4
    assert key_of(one, what, "") == key_of(one, read_spec(FILE), "")

"""What the command says before anything starts."""

import pytest
import typer
from typer.testing import CliRunner

from rpc_wrapper.cli.experiment import experiment
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.experiment.cells import chosen
from tests.experiment.rows import cell

app = typer.Typer()
app.command()(experiment)


def test_without_a_file_it_lists_what_comes_along():
    result = CliRunner().invoke(app, [])
    assert "docker-distributed-llm: 18 cells" in result.output


def test_cells_are_listed_without_starting_any():
    result = CliRunner().invoke(app, ["http-server.yaml", "--list"])
    assert len(result.output.splitlines()) == 6
    assert "3 chats, 2 backends: workload three chats" in result.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing"], "neither a file nor"),
        (["http-server", "--charts", "gif"], "svg or png"),
        (["http-server", "--chart", "x"], "is malformed"),
        (["http-server", "--only", "colour=red"], "write AXIS=VALUE"),
        (["http-server", "--only", "nodes=7"], "no cell is left"),
        (["http-server", "--backends", "box"], "write host:port"),
    ],
)
def test_a_mistake_ends_it_before_anything_starts(words, sentence, tmp_path):
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert sentence in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_cells_are_chosen_by_every_condition():
    cells = [cell(nodes=nodes, threads=threads) for nodes in (1, 2) for threads in (1, 2)]
    assert [each.label for each in chosen(cells, ["nodes=2", "threads=1"])] == ["m-q4_0-2-1"]
    assert [each.label for each in chosen(cells, ["name=m-q4_0-1-2"])] == ["m-q4_0-1-2"]
    assert len(chosen(cells, [])) == 4


def test_results_that_cannot_be_written_are_not_measured(tmp_path):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["http-server", "--charts", "none", "--out", str(tmp_path / "file" / "results")])
    assert isinstance(result.exception, ConfigError)
    assert "name another with --out" in str(result.exception)

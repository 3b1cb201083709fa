"""The command as a user runs it."""

import asyncio
import json

import pytest
import typer
from typer.testing import CliRunner

from rpc_wrapper.bench.driver import Target
from rpc_wrapper.bench.lifetimes import Recipe
from rpc_wrapper.cli.bench import Subjects, bench, parse_cluster, parse_counts, parse_target, without_keys
from rpc_wrapper.errors import ConfigError
from tests.bench.serve import fake_server

app = typer.Typer()
app.command()(bench)


async def test_two_targets_are_compared_and_written_down(tmp_path):
    table, values = tmp_path / "t.md", tmp_path / "t.json"
    sizes = ["--streams", "1,2", "--prompt-tokens", "4", "--n-predict", "3", "--repeats", "2"]
    async with fake_server() as one, fake_server("--api-key", "sesame") as two:
        targets = ["--target", f"bare={one}", "--target", f"ours={two}/,sesame"]
        files = ["--json", str(values), "--markdown", str(table)]
        result = await asyncio.to_thread(CliRunner().invoke, app, [*targets, *sizes, *files])
    assert result.exit_code == 0, result.output
    assert "| ours / bare |" in result.output
    assert table.read_text() in result.output
    rounds = json.loads(values.read_text())["rounds"]
    assert len(rounds) == 2 * 2 * 2
    assert "sesame" not in values.read_text() + result.output


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("a=http://h:1", Target("a", "http://h:1")),
        ("a=https://h/,key=1", Target("a", "https://h", "key=1")),
    ],
)
def test_targets(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize("option", ["--json", "--csv", "--markdown", "--charts"])
def test_where_nothing_can_be_written_nothing_is_measured(option, tmp_path):
    result = CliRunner().invoke(app, ["--target", "a=http://127.0.0.1:1", option, str(tmp_path / "none" / "r.svg")])
    assert isinstance(result.exception, ConfigError)
    assert "name a file in a folder that exists" in str(result.exception)


@pytest.mark.parametrize("text", ["http://h:1", "=http://h", "a=h:1", ""])
def test_a_malformed_target_says_how_to_write_one(text):
    with pytest.raises(ConfigError, match=r"NAME=URL\[,KEY\]"):
        parse_target(text)


async def test_any_openai_endpoint_can_be_measured_and_everything_is_written_down(tmp_path):
    table, chart = tmp_path / "t.csv", tmp_path / "t.png"
    sizes = ["--kind", "chat", "--streams", "1", "--prompt-tokens", "20", "--n-predict", "3", "--repeats", "1"]
    async with fake_server() as url:
        words = ["--target", f"a={url}", *sizes, "--csv", str(table), "--charts", str(chart)]
        result = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert result.exit_code == 0, result.output
    assert "tokens by chat" in table.read_text()
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_a_cluster_is_a_name_and_the_options_of_a_demo():
    assert parse_cluster("two=--backends 2 --model 'a b.gguf'") == Recipe(
        "two", ("--backends", "2", "--model", "a b.gguf")
    )
    with pytest.raises(ConfigError, match="NAME='--backends 2"):
        parse_cluster("two")


@pytest.mark.parametrize(
    ("subjects", "words"),
    [(((), (), 0, 0), "nothing is to be measured"), (((Target("a", "http://h"),), (), 1, 0), "may be stopped")],
)
def test_what_cannot_be_measured_is_refused(subjects, words):
    with pytest.raises(ConfigError, match=words):
        Subjects(*subjects)


def test_charts_of_an_unknown_kind_are_refused_before_anything_is_asked():
    result = CliRunner().invoke(app, ["--target", "a=http://127.0.0.1:1", "--charts", "x.gif"])
    assert isinstance(result.exception, ConfigError)


def test_counts():
    assert parse_counts("1, 8") == [1, 8]
    with pytest.raises(ConfigError, match="write 1,8"):
        parse_counts("one")


def test_no_key_is_published():
    argv = ["bench", "bench", "--target", "a=http://h,secret", "--target=b=https://h,secret", "--streams", "1,8"]
    assert without_keys(argv) == "rpc-wrapper bench --target a=http://h,KEY --target=b=https://h,KEY --streams 1,8"

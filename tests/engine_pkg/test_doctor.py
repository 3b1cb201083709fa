"""The doctor command: its two forms and its exit code."""

import json

import typer
from typer.testing import CliRunner

from rpc_wrapper.cli.doctor import doctor

app = typer.Typer()
app.command()(doctor)


def test_without_an_engine_it_says_what_to_do_and_ends_with_1(tmp_path):
    result = CliRunner().invoke(app, ["--engine-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "APP_ENGINE_DIR" in result.output
    assert "This machine is not usable yet." in result.output
    assert "Traceback" not in result.output


def test_json_holds_the_same(tmp_path):
    result = CliRunner().invoke(app, ["--json", "--engine-dir", str(tmp_path)])
    report = json.loads(result.output)
    assert (result.exit_code, report["usable"]) == (1, False)
    assert any(finding["verdict"] == "wrong" for finding in report["findings"])

"""``rpc-wrapper pull`` against a real server."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rpc_wrapper.cli.pull import pull
from rpc_wrapper.errors import ConfigError
from tests.pull.hub import Hub, serving

CONTENT = b"GGUF" + bytes(100_000)
TOKEN = "hf_verysecret"


def run(*arguments: str | Path, environ: dict[str, str] | None = None) -> Result:
    app = typer.Typer()
    app.command()(pull)
    return CliRunner().invoke(app, [str(one) for one in arguments], env=environ or {})


def test_a_url_becomes_a_file_and_a_second_run_with_its_digest_is_done_at_once(tmp_path: Path) -> None:
    with serving(Hub(CONTENT)) as hub:
        arguments = (f"{hub.url}/file.gguf", "--output-dir", tmp_path / "models", "--sha256", hub.sha256)
        first = run(*arguments)
        asked = len(hub.seen)
        second = run(*arguments)
        assert len(hub.seen) == asked
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert (tmp_path / "models" / "file.gguf").read_bytes() == CONTENT
    assert f"APP_MODEL={tmp_path}/models/file.gguf" in first.output


def test_the_token_goes_to_the_hub_and_is_never_shown(tmp_path: Path) -> None:
    with serving(Hub(CONTENT, token=TOKEN)) as hub:
        environ = {"HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.url}
        inside = run(f"{hub.url}/gated.gguf", "--output-dir", tmp_path, environ=environ)
        outside = run(f"{hub.other_url}/file.gguf", "--output-dir", tmp_path, environ=environ)
    assert (inside.exit_code, outside.exit_code) == (0, 0)
    assert TOKEN not in inside.output + outside.output
    assert {one.get("authorization") for one in hub.seen if one[":path"] == "/gated.gguf"} == {f"Bearer {TOKEN}"}
    assert {one.get("authorization") for one in hub.seen if one[":path"] == "/file.gguf"} == {None}


def test_the_token_is_not_in_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    shown = run("--help")
    assert "HF_TOKEN" in shown.output
    assert TOKEN not in shown.output


def test_the_list_shows_names_sizes_and_memory() -> None:
    shown = run("--list").output
    assert "tinyllama-1.1b" in shown
    assert "TinyLlama-1.1B-q4_0.gguf" in shown
    assert "memory" in shown


def test_nothing_to_pull_says_what_to_give() -> None:
    assert isinstance(run().exception, ConfigError)

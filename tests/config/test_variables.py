"""What users see of the settings: rows, JSON, Markdown."""

import json
from pathlib import Path

import pytest

from rpc_wrapper.cli.config import print_table, to_json
from rpc_wrapper.config import Settings, load_settings
from rpc_wrapper.config.llama_args import FLAGS
from rpc_wrapper.config.problems import variable
from rpc_wrapper.config.variables import flags_markdown, rows, shown, text, variables_markdown

ROOT = Path(__file__).parents[2]
SECRET = "hunter2-very-secret"


def test_every_setting_has_a_row():
    assert [row.field for row in rows(load_settings({}, {}))] == list(Settings.model_fields)


def test_secrets_are_only_counted():
    environ = {"APP_API_KEYS": f"{SECRET},b", "APP_ADMIN_KEYS": SECRET, "APP_AGENT_TOKEN": SECRET}
    values = {row.field: row.value for row in rows(load_settings({}, environ))}
    assert values["api_keys"] == "set (2 keys)"
    assert values["admin_keys"] == "set (1 key)"
    assert values["agent_token"] == "set"


@pytest.mark.parametrize("value", ["a:1", "a:1+agent=9", "a:1=2048", "a:1+agent=9=2048,b:2", "a:1,local"])
def test_endpoints_are_shown_as_they_are_written(value):
    assert shown(load_settings({}, {"APP_RPC_BACKENDS": value}).settings.rpc_backends) == value


@pytest.mark.parametrize("value", ["a:1+latency=0.01-0.02+mbit=100", "a:1+latency=0,b:2+mbit=unlimited"])
def test_link_overrides_are_shown_as_they_are_written(value):
    assert shown(load_settings({}, {"APP_LINK_OVERRIDES": value}).settings.link_overrides) == value


def test_what_is_shown_can_be_set_again():
    environ = {
        "APP_LINK_OVERRIDES": "a:1+mbit=5",
        "APP_MODE": "server",
        "APP_EMBEDDINGS": "0",
        "APP_TEMPLATE": "memory",
        "APP_WAIT_S": "1.5",
    }
    loaded = load_settings({}, environ)
    again = {variable(row.field): text(row.value) for row in rows(loaded)}
    assert load_settings({}, again).settings == loaded.settings


def test_json_holds_value_source_and_warnings_but_no_secret():
    loaded = load_settings({}, {"APP_RPC": "h:1", "APP_API_KEYS": SECRET, "APP_PARALLEL": "8"})
    printed = to_json(loaded)
    content = json.loads(printed)
    assert SECRET not in printed
    assert content["settings"]["parallel"]["value"] == 8
    assert content["settings"]["parallel"]["source"] == "env APP_PARALLEL"
    assert content["settings"]["rpc_backends"]["source"] == "env APP_RPC"
    assert len(content["warnings"]) == 1


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_shows_every_variable_but_no_secret(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(load_settings({}, {"APP_API_KEYS": SECRET, "APP_PARALLEL": "8"}))
    printed = capsys.readouterr().out
    assert SECRET not in printed
    assert all(variable(name) in printed for name in Settings.model_fields)
    assert "env APP_PARALLEL" in printed


def test_markdown_names_every_variable_and_every_flag():
    table, flags = variables_markdown(), flags_markdown()
    assert all(f"| `{variable(name)}` |" in table for name in Settings.model_fields)
    assert "`8080 or 50052`" in table
    assert all(f"`{name}`" in flags for flag in FLAGS for name in flag.names)

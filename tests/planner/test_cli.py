"""The commands inspect, plan and truncate, as a user runs them."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rpc_wrapper.cli.inspect import inspect
from rpc_wrapper.cli.plan import plan
from rpc_wrapper.cli.truncate import truncate
from rpc_wrapper.errors import ConfigError, DoesNotFit, GGUFError, PlanError
from tests.planner.models import Shape, write_model

app = typer.Typer()
app.add_typer(plan, name="plan")
app.command()(inspect)
app.command()(truncate)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "model.gguf", Shape(n_layer=8)))


def run(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(args))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_inspect(model: str) -> None:
    assert "8" in run("inspect", model)
    value = json.loads(run("inspect", model, "--json"))
    assert value["n_layer"] == 8
    assert sum(tensor["size_bytes"] for tensor in value["tensors"]) == value["file_bytes"]


BACKENDS = ("--backend", "a=400MiB", "--backend", "b=200MiB@cuda*8")


def test_a_plan_as_a_table_and_as_json(model: str) -> None:
    table = run("plan", model, *BACKENDS)
    assert "RPC1 b:50052" in table
    assert "--tensor-split" in table
    value = json.loads(run("plan", "--json", model, *BACKENDS))
    assert value["fits"] is True
    assert [each["endpoint"] for each in value["assignments"]] == ["a:50052", "b:50052"]


def test_a_refusal_as_json_exits_1(model: str) -> None:
    value = json.loads(run("plan", model, "--backend", "a=1MiB", "--json", code=1))
    assert value["fits"] is False
    assert value["shortfall_bytes"]["a:50052"] > 0
    assert "MiB" in value["reason"]
    with pytest.raises(DoesNotFit, match="MiB short on a:50052"):
        run("plan", model, "--backend", "a=1MiB")


def test_all_strategies_side_by_side(model: str) -> None:
    text = run("plan", model, *BACKENDS, "--strategy", "all", "--boundaries", "0-3,4-7")
    for name in ("uniform", "memory", "compute", "mixed", "custom", "single_device", "local"):
        assert name in text
    value = json.loads(run("plan", model, *BACKENDS, "--strategy", "all", "--json"))
    assert value["compute"]["fits"] is True


def test_a_strategy_file(model: str, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    entries = [
        {"name": "2p", "num_partitions": 2, "strategy_type": "SINGLE_DEVICE"},
        {"name": "9p", "num_partitions": 9, "strategy_type": "SINGLE_DEVICE"},
        {"name": "bad"},
    ]
    path.write_text(json.dumps({"strategies": entries}))
    text = run("plan", model, *BACKENDS, "--strategies-file", str(path))
    assert "RPC0: 0-3" in text
    assert "9 partitions" in text


def test_a_plan_is_saved_listed_shown_moved_and_deleted(model: str, tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "plans"))
    run("plan", model, *BACKENDS, "--save", "mine", "--tag", "t", "--description", "words", *store)
    assert "words" in run("plan", "list", *store)
    assert "mine" not in run("plan", "list", "--tag", "other", *store)
    assert json.loads(run("plan", "list", "--json", *store))[0]["tags"] == ["t"]
    assert "RPC1" in run("plan", "show", "mine", *store)
    assert "mine is valid" in run("plan", "validate", "mine", "--model", model, *store)
    moved = run("plan", "--load", "mine", "--backend", "x=1GiB", "--backend", "y=1GiB", *store)
    assert "RPC1 y:50052" in moved
    run("plan", "export", "mine", str(tmp_path / "out.json"), *store)
    run("plan", "delete", "mine", *store)
    assert run("plan", "import", str(tmp_path / "out.json"), *store).strip() == "mine"


def test_a_damaged_plan_is_listed_as_such(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    assert "damaged" in run("plan", "list", "--store", str(tmp_path))


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (["--backend", "a=1GiB", "--strategy", "magic"], ConfigError, "'magic' is unknown"),
        ([], ConfigError, "no backend is given"),
        (["--backend", "a"], ConfigError, "malformed"),
        (["--backend", "a=1GiB", "--split-mode", "row"], PlanError, "'row'"),
        (["--backend", "a=1GiB", "--boundaries", "0-7"], PlanError, "use strategy custom"),
        (["--backend", "a=1GiB", "--load", "nothing"], PlanError, "no saved plan 'nothing'"),
        (["--rpc", "127.0.0.1:1"], ConfigError, "127.0.0.1:1 is down"),
    ],
)
def test_a_mistake_is_one_sentence(model: str, tmp_path: Path, args: list[str], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        run("plan", model, *args, "--store", str(tmp_path))


def test_no_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model"):
        run("plan", "--backend", "a=1GiB")
    with pytest.raises(GGUFError, match="cannot be read"):
        run("plan", str(tmp_path / "none.gguf"), "--backend", "a=1GiB")


def test_truncate(model: str, tmp_path: Path) -> None:
    target = tmp_path / "short.gguf"
    assert "3 blocks" in run("truncate", model, "--layers", "3", "-o", str(target))
    assert json.loads(run("inspect", str(target), "--json"))["n_layer"] == 3

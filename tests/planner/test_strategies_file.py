"""LlamaDistributor's strategy files, unchanged."""

import json
from pathlib import Path
from typing import Any

import pytest

from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner import PlanOptions, Strategy, Workload, make_plan
from rpc_wrapper.planner.strategies_file import NamedStrategy, read_strategies
from tests.planner.profiles import even_profile, remote


def entry(**values: object) -> dict[str, Any]:
    given = {"name": "n", "num_partitions": 3, "strategy_type": "SINGLE_DEVICE", "custom_boundaries": None}
    return given | {"exit_position": None, "description": ""} | values


def write(path: Path, *entries: object) -> Path:
    path.write_text(json.dumps({"strategies": list(entries)}))
    return path


def test_entries_become_options(tmp_path: Path) -> None:
    uniform, custom, memory = read_strategies(
        write(
            tmp_path / "s.json",
            entry(name="3p uniform"),
            entry(name="3p custom", custom_boundaries=[[0, 7], [8, 20], [21, 31]], description="uneven"),
            entry(name="4p memory", num_partitions=4, strategy_type="memory", exit_position=3),
        )
    )[0]
    assert uniform.options() == PlanOptions(strategy=Strategy.UNIFORM)
    assert custom.options() == PlanOptions(strategy=Strategy.CUSTOM, boundaries=((0, 7), (8, 20), (21, 31)))
    assert (custom.name, custom.description) == ("3p custom", "uneven")
    assert memory.options().strategy is Strategy.MEMORY
    devices = remote(900, 900, 900, 900)
    plan = make_plan(even_profile(32), uniform.devices(devices), Workload(ctx_size=256), uniform.options())
    assert [each.n_blocks for each in plan.assignments] == [11, 11, 10]


@pytest.mark.parametrize(
    ("n_partitions", "exit_position", "n_blocks"),
    [(32, None, 32), (32, 31, 31), (32, 24, 24), (32, 1, 1), (16, 12, 24), (16, 8, 16), (4, 3, 24), (4, 2, 16)],
)
def test_an_early_exit_runs_the_blocks_of_the_first_partitions(
    n_partitions: int, exit_position: int | None, n_blocks: int
) -> None:
    named = NamedStrategy("n", n_partitions, Strategy.SINGLE_DEVICE, exit_position=exit_position)
    assert named.layers_run(32) == n_blocks


def test_an_early_exit_of_custom_boundaries() -> None:
    boundaries = ((0, 7), (8, 20), (21, 31))
    named = NamedStrategy("n", 3, Strategy.CUSTOM, boundaries=boundaries, exit_position=2)
    assert named.layers_run(32) == 21


BAD_ENTRIES = [
    (7, "not an object"),
    ({"num_partitions": 2}, "'name' is missing"),
    ({"name": "n"}, "'num_partitions' is missing"),
    (entry(num_partitions="3"), "not a whole number"),
    (entry(num_partitions=0), "0 partitions"),
    (entry(strategy_type="magic"), "magic"),
    (entry(custom_boundaries=[[0, 7]]), "1 boundaries for 3 partitions"),
    (entry(custom_boundaries=[0, 7, 8]), "skipped"),
    (entry(exit_position=4), "exit_position 4"),
    (entry(exit_position=0), "exit_position 0"),
    (entry(strategy_type="custom"), "needs custom_boundaries"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ENTRIES)
def test_an_unusable_entry_is_skipped_with_a_sentence(tmp_path: Path, bad: object, message: str) -> None:
    usable, skipped = read_strategies(write(tmp_path / "s.json", bad, entry(name="good")))
    assert [each.name for each in usable] == ["good"]
    assert len(skipped) == 1
    assert skipped[0].startswith("strategy 1 is skipped: ")
    assert message in skipped[0]


def test_too_few_devices_are_named() -> None:
    with pytest.raises(PlanError, match="3 partitions for 2 devices"):
        NamedStrategy("n", 3, Strategy.UNIFORM).devices(remote(1, 1))


@pytest.mark.parametrize(
    ("content", "message"), [("", "not JSON"), ("{}", "no list"), ('{"strategies": 3}', "no list")]
)
def test_what_is_no_strategy_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(PlanError, match=message):
        read_strategies(path)
    with pytest.raises(PlanError, match="cannot be read"):
        read_strategies(tmp_path / "none.json")

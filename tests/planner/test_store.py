"""Saved plans: there and back, and no way out of the folder."""

import json
from pathlib import Path

import pytest

from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner import Workload, make_plan
from rpc_wrapper.planner.store import PlanStore, StoredPlan, find, keep, read_plan
from tests.planner.profiles import even_profile, remote

PLAN = make_plan(even_profile(8), remote(300, 600), Workload(ctx_size=512, n_ubatch=64))
STORED = StoredPlan("two-boxes", PLAN, "for the office", ("cpu", "night"))


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore(tmp_path / "plans")


def test_a_plan_is_kept_with_what_is_said_about_it(store: PlanStore) -> None:
    assert store.names() == ()
    store.save(STORED)
    assert store.names() == ("two-boxes",)
    assert store.load("two-boxes") == STORED
    store.delete("two-boxes")
    assert store.names() == ()


def test_nothing_is_replaced_unasked(store: PlanStore) -> None:
    store.save(STORED)
    with pytest.raises(PlanError, match="saved already"):
        store.save(STORED)
    store.save(STORED, overwrite=True)


def test_a_missing_plan_is_named_with_those_that_exist(store: PlanStore) -> None:
    store.save(STORED)
    with pytest.raises(PlanError, match=r"'other' \(saved are: two-boxes\)"):
        store.load("other")
    with pytest.raises(PlanError, match="no saved plan 'other'"):
        store.delete("other")


NAMES = ["../x", "..", ".hidden", "", "a/b", "a\\b", "/etc/passwd", "x" * 65, "a b", "a\0b", "-x", "é"]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_folder(store: PlanStore, tmp_path: Path, name: str) -> None:
    for act in (store.load, store.delete, lambda name: store.save(StoredPlan(name, PLAN))):
        with pytest.raises(PlanError, match="not allowed"):
            act(name)
    source = tmp_path / "evil.json"
    source.write_text(json.dumps(STORED.to_json() | {"name": name}))
    with pytest.raises(PlanError, match="not allowed"):
        store.take_in(source)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["evil.json"]


def test_export_and_import(store: PlanStore, tmp_path: Path) -> None:
    store.save(STORED)
    store.give_out("two-boxes", tmp_path / "out.json")
    with pytest.raises(PlanError, match="exists already"):
        store.give_out("two-boxes", tmp_path / "out.json")
    other = PlanStore(tmp_path / "other")
    assert other.take_in(tmp_path / "out.json") == STORED
    assert other.load("two-boxes") == STORED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("[]", "holds no saved plan"),
        ("[" * 100_000, "not JSON"),
        (json.dumps({"plan": {}}), "must be strings"),
        (json.dumps({"name": "x", "plan": {}}), "'fits' is missing"),
        (json.dumps({"name": "x", "plan": {}, "tags": "cpu"}), "must be strings"),
        (b"\x80\x04\x95".decode("latin-1"), "not JSON"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(PlanError, match=message):
        read_plan(path)


def test_a_file_beyond_belief_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(PlanError, match="1073741824 bytes"):
        read_plan(path)
    with pytest.raises(PlanError, match="cannot be read"):
        read_plan(tmp_path / "none.json")


def test_a_file_serves_as_well_as_a_name(store: PlanStore, tmp_path: Path) -> None:
    target = str(tmp_path / "my plan.json")
    keep(store, target, PLAN, ("", ()), overwrite=False)
    assert find(store, target).plan == PLAN
    assert find(store, target).name == "my-plan"
    with pytest.raises(PlanError, match="exists already"):
        keep(store, target, PLAN, ("", ()), overwrite=False)
    keep(store, "named", PLAN, ("d", ("t",)), overwrite=False)
    assert find(store, "named") == StoredPlan("named", PLAN, "d", ("t",))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("a file")
    with pytest.raises(PlanError, match="cannot be written"):
        PlanStore(tmp_path / "plans").save(STORED)

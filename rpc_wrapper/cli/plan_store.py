"""``rpc-wrapper plan list|show|delete|validate|export|import``: the saved plans."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rpc_wrapper.errors import PlanError
from rpc_wrapper.planner import Plan, read_profile
from rpc_wrapper.planner.placing import check_model
from rpc_wrapper.planner.report import plan_lines, plan_table, stored_table
from rpc_wrapper.planner.store import PlanStore, StoredPlan

DEFAULT_FOLDER = Path("~/.local/share/rpc-wrapper/plans")

Folder = Annotated[Path, typer.Option("--store", help="The folder of saved plans.")]
Name = Annotated[str, typer.Argument(help="The name of a saved plan.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists under that name.")]


def open_store(folder: Path) -> PlanStore:
    """Return the store in a folder, ``~`` expanded."""
    return PlanStore(folder.expanduser())


def print_plan(plan: Plan) -> None:
    """Print a plan as a table, with its reasons and its arguments."""
    Console().print(plan_table(plan))
    for line in plan_lines(plan):
        typer.echo(line)


def list_plans(
    store: Folder = DEFAULT_FOLDER,
    tag: Annotated[str | None, typer.Option("--tag", help="Only those with this tag.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the saved plans."""
    plans, damaged = _read_all(open_store(store), tag)
    if as_json:
        typer.echo(json.dumps([each.to_json() for each in plans], indent=2, ensure_ascii=False))
    else:
        Console().print(stored_table(plans, damaged))


def _read_all(store: PlanStore, tag: str | None) -> tuple[list[StoredPlan], list[str]]:
    plans, damaged = [], []
    for name in store.names():
        try:
            plans.append(store.load(name))
        except PlanError:
            damaged.append(name)
    return [each for each in plans if tag is None or tag in each.tags], damaged


def show(name: Name, store: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """Show a saved plan."""
    stored = open_store(store).load(name)
    if as_json:
        typer.echo(json.dumps(stored.to_json(), indent=2, ensure_ascii=False))
    else:
        print_plan(stored.plan)


def delete(name: Name, store: Folder = DEFAULT_FOLDER) -> None:
    """Delete a saved plan."""
    open_store(store).delete(name)


def validate(
    name: Name,
    model: Annotated[Path | None, typer.Option("--model", help="Also check that it is for this model.")] = None,
    store: Folder = DEFAULT_FOLDER,
) -> None:
    """Check that a saved plan is whole, within its budgets, and for the model given."""
    plan = open_store(store).load(name).plan
    if model is not None:
        check_model(plan, read_profile(model))
    typer.echo(f"{name} is valid: {plan.n_layer} blocks on {len(plan.assignments)} devices")


def export(
    name: Name,
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    store: Folder = DEFAULT_FOLDER,
) -> None:
    """Write a saved plan to a file, to be imported elsewhere."""
    open_store(store).give_out(name, target)


def import_plan(
    source: Annotated[Path, typer.Argument(help="A file that plan export or --save wrote.")],
    store: Folder = DEFAULT_FOLDER,
    overwrite: Overwrite = False,
) -> None:
    """Take a plan file into the store, under the name written in it."""
    typer.echo(open_store(store).take_in(source, overwrite=overwrite).name)

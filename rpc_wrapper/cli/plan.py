"""``rpc-wrapper plan MODEL``: where every block would go, and why; without a sub-command it makes a plan."""

import json
import ssl
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from rpc_wrapper.cli import plan_store
from rpc_wrapper.cli.options import with_tls
from rpc_wrapper.cli.plan_request import Request
from rpc_wrapper.cli.plan_store import print_plan
from rpc_wrapper.errors import DoesNotFit, PlanError
from rpc_wrapper.planner.plan import Plan, outcome_to_json, refusal_to_json
from rpc_wrapper.planner.report import comparison_table
from rpc_wrapper.planner.store import keep

MAKE = "make"
HELP = "Decide where every block goes (plan MODEL, options: plan make --help); keep and reuse plans."


class PlanGroup(TyperGroup):
    """A group whose first word is a model unless it is a sub-command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the hidden command that makes a plan."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [MAKE, *args]
        return super().parse_args(ctx, args)


plan = typer.Typer(cls=PlanGroup, no_args_is_help=True, help=HELP)


@plan.command(MAKE)
@with_tls
def make(
    tls: ssl.SSLContext | None,
    model: Annotated[Path | None, typer.Argument(help="A GGUF file; not needed with --load.")] = None,
    backend: Annotated[list[str], typer.Option("--backend", help="NAME=MEM[@KIND][*SPEED]; NAME local is here.")] = [],  # noqa: B006
    rpc: Annotated[str, typer.Option("--rpc", help="Ask these backends: HOST:PORT[=MIB],...")] = "",
    strategy: Annotated[str, typer.Option("--strategy", help="A strategy's name, or all to compare them.")] = "memory",
    memory_weight: Annotated[float, typer.Option(help="For mixed: 0 counts time only, 1 memory only.")] = 0.6,
    boundaries: Annotated[str, typer.Option(help="For custom: inclusive blocks per device, 0-7,8-21.")] = "",
    split_layer: Annotated[int | None, typer.Option(help="Blocks before this one stay on the server.")] = None,
    gpu_layers: Annotated[int | None, typer.Option(help="Only this many blocks, with the output, leave it.")] = None,
    ctx_size: Annotated[int, typer.Option(help="Tokens per slot; 0 is what the model was trained with.")] = 4096,
    parallel: Annotated[int, typer.Option(help="Slots; the server has as many by default.")] = 4,
    cache_type_k: Annotated[str, typer.Option(help="Type of the K cache.")] = "f16",
    cache_type_v: Annotated[str, typer.Option(help="Type of the V cache.")] = "f16",
    embeddings: Annotated[bool, typer.Option(help="Count what serving embeddings takes, too.")] = True,
    split_mode: Annotated[str, typer.Option(help="layer or tensor.")] = "layer",
    save: Annotated[str, typer.Option("--save", help="Save it: to FILE.json, or under a name.")] = "",
    description: Annotated[str, typer.Option(help="What the saved plan is for.")] = "",
    tag: Annotated[list[str], typer.Option("--tag", help="A word to find the saved plan by.")] = [],  # noqa: B006
    load: Annotated[str, typer.Option("--load", help="Show a saved plan, on the backends given if any.")] = "",
    strategies_file: Annotated[Path | None, typer.Option(help="Compare the entries of a strategy file.")] = None,
    store: plan_store.Folder = plan_store.DEFAULT_FOLDER,
    overwrite: plan_store.Overwrite = False,
    as_json: plan_store.AsJson = False,
) -> None:
    """Decide which device holds which blocks, and show the arithmetic; exit 1 when the model does not fit."""
    given = dict(locals())
    request = Request(**{name: given[name] for name in Request.__dataclass_fields__})
    if strategies_file is not None or strategy == "all":
        _print_comparison(request.compare(), as_json)
        return
    try:
        made = request.load_plan() if load else request.make()
    except DoesNotFit as error:
        if not as_json:
            raise
        typer.echo(json.dumps(refusal_to_json(error), indent=2))
        raise typer.Exit(1) from None
    if save:
        keep(plan_store.open_store(store), save, made, (description, tag), overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=2))
    else:
        print_plan(made)


def _print_comparison(outcomes: dict[str, Plan | PlanError], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({name: outcome_to_json(outcome) for name, outcome in outcomes.items()}, indent=2))
    else:
        Console().print(comparison_table(outcomes))
    if not any(isinstance(outcome, Plan) for outcome in outcomes.values()):
        raise typer.Exit(1)


plan.command("list")(plan_store.list_plans)
plan.command("show")(plan_store.show)
plan.command("delete")(plan_store.delete)
plan.command("validate")(plan_store.validate)
plan.command("export")(plan_store.export)
plan.command("import")(plan_store.import_plan)

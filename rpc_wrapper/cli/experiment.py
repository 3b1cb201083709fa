"""``rpc-wrapper experiment``: run a matrix of clusters, one row per cell, and go on where an earlier run stopped."""

import asyncio
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from rpc_wrapper.bench import draw
from rpc_wrapper.bench.cluster import Place, interrupt_on_sigterm
from rpc_wrapper.bench.environment import busy_share, environment
from rpc_wrapper.bench.report import Environment
from rpc_wrapper.cli import options
from rpc_wrapper.devices import parse_endpoints
from rpc_wrapper.engine import binaries, machine
from rpc_wrapper.errors import ConfigError, RPCWrapperError
from rpc_wrapper.experiment import files, report
from rpc_wrapper.experiment.cells import AXES, chosen
from rpc_wrapper.experiment.models import Models
from rpc_wrapper.experiment.row import Row
from rpc_wrapper.experiment.run import Bed, Run
from rpc_wrapper.experiment.write import Pictures, write_results

MODELS = Path("~/.cache/rpc-wrapper/models")


def experiment(
    file: Annotated[str, typer.Argument(help="A YAML file, or one that comes along: see --list.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where results go; results/NAME by default.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The smaller version that the file describes.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure every cell again.")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="AXIS=VALUE", help="Only these cells; repeat it.")] = None,
    backends: Annotated[str, typer.Option(metavar="HOST:PORT,...", help="Use these, not local workers.")] = "",
    chart: Annotated[
        list[str] | None, typer.Option(metavar="'FIGURE over AXIS by AXIS'", help="One more chart.")
    ] = None,
    charts: Annotated[str, typer.Option(metavar="svg|png|none", help="Format of the charts.")] = "svg",
    models: Annotated[Path, typer.Option(metavar="DIR", help="Where made models are kept.")] = MODELS,
    show: Annotated[bool, typer.Option("--list", help="Print the experiments, or a file's cells, and stop.")] = False,
) -> None:
    """Run every cell of a matrix of models, nodes, threads, latencies, strategies ... and compare them."""
    if show or not file:
        _list(file, quick)
        return
    if charts != "none":
        draw.check(charts, "give --charts none")
    path = files.find_experiment(file)
    what = files.read_experiment(path, quick=quick)
    extra = [report.parse_chart(text) for text in chart or ()]
    folder = out or Path("results") / (what.name + ("-quick" if quick else ""))
    ledger = files.Ledger(folder / "rows.jsonl")
    if fresh:
        ledger.path.unlink(missing_ok=True)
    parse_endpoints(backends)
    _make(folder)
    given = tuple(word.strip() for word in backends.split(",") if word.strip())
    interrupt_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="rpcw-experiment-") as scratch:
        bed = Bed(Place(Path(scratch), options.environment()), Models(models.expanduser(), path.parent), given)
        run = Run(what, chosen(what.cells, only or ()), bed, ledger)
        facts = asyncio.run(_measured(run))
    rows = run.rows()
    specs = (*what.charts, *extra) if charts != "none" else ()
    typer.echo(write_results(folder, what, rows, facts, Pictures(specs, charts)))
    failed = [row for row in rows if row.error]
    if failed:
        raise RPCWrapperError(f"{len(failed)} of {len(rows)} cells could not be measured: see {folder / 'results.md'}")


def _make(folder: Path) -> None:
    """Make the folder of the results before anything is measured; raise ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot hold results ({error.strerror}): name another with --out") from None


async def _measured(run: Run) -> Environment:
    """Measure what is missing and return on what machine, and how busy it was with other things."""
    before = await busy_share()
    await _measure(run)
    cores = machine.cpu_quota() or float(machine.cpu_count())
    command = shlex.join(["rpc-wrapper", *sys.argv[1:]])
    return environment(command, binaries.find_engine().version, machine.cpu().name, cores, (before, await busy_share()))


async def _measure(run: Run) -> None:
    """Measure what is missing, with a bar on a terminal and a line per cell anywhere."""
    missing = run.missing()
    console = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("starting", total=len(missing))
        for cell in missing:
            progress.update(task, description=cell.label)
            row = await run.measure(cell)
            progress.update(task, advance=1)
            progress.console.print(_line(row), highlight=False, markup=False, soft_wrap=True)


def _line(row: Row) -> str:
    rate = row.figure("generation") or row.figure("throughput")
    return f"{row.cell.label}: {row.error or (f'{rate.median:.2f} tok/s' if rate else 'measured')}"


def _list(file: str, quick: bool) -> None:
    if not file:
        for name in files.shipped_names():
            what = files.read_experiment(files.find_experiment(name))
            typer.echo(f"{name}: {len(what.cells)} cells. {what.about.strip()}")
        return
    what = files.read_experiment(files.find_experiment(file), quick=quick)
    for cell in what.cells:
        axes = [f"{axis} {cell.value_of(axis)}" for axis in AXES if cell.value_of(axis)]
        typer.echo(f"{cell.label}: {', '.join(axes)}")

"""Run one cell: start its cluster, limit it, measure it, stop it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import psutil

from rpc_wrapper.bench.cluster import Place, command
from rpc_wrapper.bench.driver import Schedule, Target, open_driver
from rpc_wrapper.bench.stats import NodeUse, Summary, summarise
from rpc_wrapper.bench.twin import free_ports
from rpc_wrapper.devices import MIB
from rpc_wrapper.errors import ConfigError, RPCWrapperError, StartFailed
from rpc_wrapper.experiment.cells import Cell, Limits, backend_options, cluster_options, demo_options
from rpc_wrapper.experiment.files import Ledger
from rpc_wrapper.experiment.models import Models
from rpc_wrapper.experiment.row import Row, key_of, row_of
from rpc_wrapper.experiment.spec import Experiment

SENTENCE = "rpc-wrapper: "  # what the command line writes before the one sentence about why it ended


@dataclass(frozen=True, slots=True)
class Bed:
    """Where cells run: folder and environment of their commands, their models, and backends when some are given."""

    place: Place
    models: Models
    backends: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Return what distinguishes it in a row's key."""
        return ",".join(self.backends)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an experiment: the cells that were chosen, where they run, and the ledger their rows go to."""

    experiment: Experiment
    cells: tuple[Cell, ...]
    bed: Bed
    ledger: Ledger

    def rows(self) -> list[Row]:
        """Return the rows there are of all cells, chosen or not, in the order of the cells."""
        known = self.ledger.rows()
        keys = [key_of(cell, self.experiment, self.bed.where) for cell in self.experiment.cells]
        return [known[key] for key in keys if key in known]

    def missing(self) -> list[Cell]:
        """Return the chosen cells that have no row yet, or one with an error."""
        done = {row.key for row in self.rows() if not row.error}
        return [cell for cell in self.cells if key_of(cell, self.experiment, self.bed.where) not in done]

    async def measure(self, cell: Cell) -> Row:
        """Measure a cell and put its row into the ledger."""
        row = await run_cell(cell, self.experiment, self.bed)
        self.ledger.add(row)
        return row


async def run_cell(cell: Cell, experiment: Experiment, bed: Bed) -> Row:
    """Return the cell's row; whatever keeps it from being measured is the row's error."""
    key = key_of(cell, experiment, bed.where)
    clock = asyncio.get_running_loop().time
    began_s = clock()
    try:
        row = await _measured(cell, experiment, bed, key)
    except ConfigError:
        raise  # nothing to measure until somebody mends the file
    except (RPCWrapperError, OSError) as error:
        row = Row(key, cell, error=_sentence(error))
    return replace(row, took_s=clock() - began_s)


async def _measured(cell: Cell, experiment: Experiment, bed: Bed, key: str) -> Row:
    model = await asyncio.to_thread(bed.models.path, experiment.models[cell.model], cell)
    words = cluster_options(cell, model)
    workload = experiment.workloads[cell.workload].workload()
    schedule = Schedule(experiment.repeats, experiment.warm_up)
    async with _cluster(cell, words, bed) as running, open_driver([running.target]) as driver:
        plans = await driver.plans()
        rounds = [one async for one in driver.run([workload], schedule)]
    summary = summarise(rounds)
    notes = (*running.notes, *_over_limit(summary, cell.limits))
    return row_of(cell, key, running.start_s, summary, (plans.get(running.target.name, ""), notes))


@dataclass(frozen=True, slots=True)
class Running:
    """A cell's ready cluster."""

    target: Target
    start_s: float
    notes: tuple[str, ...]


@asynccontextmanager
async def _cluster(cell: Cell, options: Sequence[str], bed: Bed) -> AsyncIterator[Running]:
    [port] = free_ports(1)
    if bed.backends:
        words = ["run", "--mode", "server", "--bind", "127.0.0.1", *backend_options(cell, list(bed.backends))]
    else:
        words = ["demo", *demo_options(cell)]
    url = f"http://127.0.0.1:{port}"
    clock = asyncio.get_running_loop().time
    began_s = clock()
    async with command(bed.place, [*words, "--port", str(port), *options], f"{url}/readyz") as pid:
        start_s = clock() - began_s
        notes = _pin(pid, cell.limits)
        yield Running(Target(cell.label, url, pid=pid), start_s, notes)


def _pin(pid: int, limits: Limits) -> tuple[str, ...]:
    """Keep a cluster's processes on as many cores as their limits say; return what could not be done as notes."""
    family = psutil.Process(pid).children(recursive=True)
    workers = [each for each in family if "rpc-server" in each.name()]
    servers = [each for each in family if "llama-server" in each.name()]
    pairs = [(each, limits.main.cpus) for each in servers] + [(each, limits.worker.cpus) for each in workers]
    wanted = [(process, cpus) for process, cpus in pairs if cpus]
    if not wanted:
        return ()
    if sys.platform != "linux":
        return ("CPU limits were not applied: only Linux binds processes to cores",)
    cores = sorted(os.sched_getaffinity(0))
    for number, (process, cpus) in enumerate(wanted):
        chosen = {cores[(number + core) % len(cores)] for core in range(cpus)}
        for thread in process.threads():  # those they start later inherit it
            os.sched_setaffinity(thread.id, chosen)
    return ()


def _over_limit(summary: Summary, limits: Limits) -> tuple[str, ...]:
    """Return a note per process that took more memory than its limit; a backend's own gate counts buffers only."""
    return tuple(
        f"{use.name} took {use.peak_rss_bytes / MIB:.0f} MiB of memory, {limit} MiB was its limit"
        for use in summary.nodes
        if (limit := _limit_mib(use, limits)) is not None and use.peak_rss_bytes > limit * MIB
    )


def _limit_mib(use: NodeUse, limits: Limits) -> int | None:
    return limits.worker.mem_mib if use.name.startswith("worker") else limits.main.mem_mib


def _sentence(error: Exception) -> str:
    """Return why a cell failed in one sentence: what the command line said last, where it said something."""
    if isinstance(error, StartFailed):
        said = [line for line in error.last_lines if line.startswith(SENTENCE)]
        if said:
            return said[-1].removeprefix(SENTENCE)
        return str(error).splitlines()[0] + (f" {error.last_lines[-1]}" if error.last_lines else "")
    return str(error)

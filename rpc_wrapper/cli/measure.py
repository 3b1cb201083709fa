"""Measure with a progress bar, and say on what machine: what ``bench`` and the scripts beside it share."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import Progress

from rpc_wrapper.bench.driver import Driver, Schedule, Target, engine_version, open_driver
from rpc_wrapper.bench.environment import busy_share, environment
from rpc_wrapper.bench.report import Environment, Result
from rpc_wrapper.bench.stats import Round
from rpc_wrapper.bench.workload import Workload
from rpc_wrapper.engine import machine


async def measure(
    targets: Sequence[Target], workloads: Sequence[Workload], schedule: Schedule, command: str
) -> tuple[Result, Environment]:
    """Put every workload to every target; ``command`` is what the report tells people to type."""
    before = await busy_share()
    async with open_driver(targets) as driver:
        plans = await driver.plans()
        result = Result(tuple(await _rounds(driver, workloads, schedule, len(targets))))
    cores = machine.cpu_quota() or float(machine.cpu_count())
    engine = await engine_version(targets[0])
    cpu = machine.cpu().name
    return result, environment(command, engine, cpu, cores, (before, await busy_share()), plans)


async def _rounds(driver: Driver, workloads: Sequence[Workload], schedule: Schedule, targets: int) -> list[Round]:
    rounds: list[Round] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=len(workloads) * schedule.repeats * targets)
        async for one in driver.run(workloads, schedule):
            progress.update(task, advance=1, description=f"{one.workload}: {one.target}")
            rounds.append(one)
    return rounds

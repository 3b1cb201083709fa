"""``rpc-wrapper bench``: measure one endpoint, or compare several within one interleaved run."""

import asyncio
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from rpc_wrapper.bench import draw
from rpc_wrapper.bench.cluster import Place, interrupt_on_sigterm
from rpc_wrapper.bench.driver import Schedule, Target
from rpc_wrapper.bench.lifetimes import Recipe, own_cluster, recovery_times_s, start_times_s
from rpc_wrapper.bench.report import Environment, Result, to_charts, to_csv, to_json, to_markdown
from rpc_wrapper.bench.twin import free_ports
from rpc_wrapper.bench.workload import Kind, Workload
from rpc_wrapper.cli import options
from rpc_wrapper.cli.measure import measure
from rpc_wrapper.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Subjects:
    """What is measured: endpoints that run, clusters to start, and how often those are started and broken."""

    targets: tuple[Target, ...]
    clusters: tuple[Recipe, ...]
    starts: int
    losses: int

    def __post_init__(self) -> None:
        if not self.targets and not self.clusters:
            raise ConfigError("nothing is to be measured: give --target NAME=URL or --cluster NAME='--backends 2'")
        if (self.starts or self.losses) and not self.clusters:
            raise ConfigError(
                "--starts and --losses need a cluster that may be stopped: give --cluster NAME='--backends 2'"
            )


def bench(
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL[,KEY]", help="Repeat it; the first is the baseline.")
    ] = None,
    cluster: Annotated[
        list[str] | None, typer.Option(metavar="NAME='DEMO OPTIONS'", help="A demo cluster to start and measure.")
    ] = None,
    kind: Annotated[
        Kind, typer.Option(help="How targets are asked; chat and embeddings work with any OpenAI endpoint.")
    ] = Kind.TOKENS,
    streams: Annotated[str, typer.Option(help="Clients at once; a list measures each.")] = "1,8",
    prompt_tokens: Annotated[int, typer.Option(help="Exact length of each prompt.")] = 64,
    n_predict: Annotated[int, typer.Option(help="Exact length of each answer.")] = 64,
    requests: Annotated[int, typer.Option(help="Requests of each client in a round, one after the other.")] = 1,
    rate: Annotated[
        float | None, typer.Option(help="Requests/s at random times (Poisson), instead of one by one.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Rounds of each target that count.")] = 5,
    warm_up: Annotated[int, typer.Option(help="Rounds of each target before, thrown away.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of prompts and arrivals.")] = 1,
    starts: Annotated[int, typer.Option(min=0, help="Cold and warm starts of each cluster to time.")] = 0,
    losses: Annotated[int, typer.Option(min=0, help="Kills of a worker and of llama-server to time.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every round there.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="The same as a table.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables there too.")] = None,
    charts: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw charts into an .svg or .png.")] = None,
) -> None:
    """Measure tokens per second, latencies, load, memory and traffic of llama-server or OpenAI endpoints."""
    if charts:
        draw.check(charts.suffix.removeprefix("."), "leave --charts out")
    check_files(json_file, csv_file, markdown, charts)
    targets, recipes = tuple(map(parse_target, target or ())), tuple(map(parse_cluster, cluster or ()))
    subjects = Subjects(targets, recipes, starts, losses)
    workloads = [
        Workload(prompt_tokens, n_predict, count, requests, rate, Kind(kind)) for count in parse_counts(streams)
    ]
    if recipes:
        interrupt_on_sigterm()
    result, environment = asyncio.run(_measure(subjects, workloads, Schedule(repeats, warm_up, seed)))
    text = to_markdown(result, environment)
    typer.echo(text)
    values = json.dumps(to_json(result, environment), indent=1) + "\n"
    for file, content in ((markdown, text), (json_file, values), (csv_file, to_csv(result))):
        if file:
            file.write_text(content)
    if charts:
        draw.draw(to_charts(result), charts)


async def _measure(subjects: Subjects, workloads: Sequence[Workload], schedule: Schedule) -> tuple[Result, Environment]:
    """Start the clusters, measure all targets side by side, then start and break each cluster as often as asked."""
    lifetimes: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="rpcw-bench-") as folder:
        place = Place(Path(folder), options.environment())
        for recipe in subjects.clusters if subjects.starts else ():
            lifetimes[recipe.name] = await start_times_s(place, recipe, free_ports(subjects.starts))
        async with AsyncExitStack() as stack:
            ports = free_ports(len(subjects.clusters))
            pairs = zip(subjects.clusters, ports, strict=True)
            own = [await stack.enter_async_context(own_cluster(place, *pair)) for pair in pairs]
            targets = [*subjects.targets, *own]
            result, environment = await measure(targets, workloads, schedule, without_keys(sys.argv))
            for each in own if subjects.losses else ():
                lifetimes.setdefault(each.name, {}).update(await recovery_times_s(each, subjects.losses))
    return Result(result.rounds, lifetimes), environment


def parse_target(text: str) -> Target:
    """Parse ``NAME=URL[,KEY]``; raise ConfigError."""
    name, _, rest = text.partition("=")
    url, _, key = rest.partition(",")
    if not name or not url.startswith(("http://", "https://")):
        raise ConfigError(f"target {name!r} is malformed: write NAME=URL[,KEY], for example ours=http://localhost:8080")
    return Target(name, url.rstrip("/"), key or None)


def parse_cluster(text: str) -> Recipe:
    """Parse ``NAME=DEMO OPTIONS``; raise ConfigError."""
    name, is_pair, rest = text.partition("=")
    if not name or not is_pair:
        raise ConfigError(f"cluster {text!r} is malformed: write NAME='--backends 2 --model FILE.gguf'")
    return Recipe(name, tuple(shlex.split(rest)))


def parse_counts(text: str) -> list[int]:
    """Parse ``1,8``; raise ConfigError."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--streams {text!r} is no list of numbers: write 1,8") from None


def check_files(*files: Path | None) -> None:
    """Raise ConfigError unless results can be written there: to be asked before anything is measured."""
    for file in filter(None, files):
        if file.is_dir() or not os.access(file.parent, os.W_OK):
            raise ConfigError(f"results cannot be written to {file}: name a file in a folder that exists and is yours")


def without_keys(argv: list[str]) -> str:
    """Return a command line that may be published: what follows the comma of a target is its key."""
    shown = ["rpc-wrapper", *argv[1:]]
    return shlex.join(word.partition(",")[0] + ",KEY" if "=http" in word and "," in word else word for word in shown)

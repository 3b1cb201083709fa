"""``rpc-wrapper bench``: measure one endpoint, or compare several within one interleaved run."""

import asyncio
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from rpc_wrapper.bench.driver import Schedule, Target
from rpc_wrapper.bench.report import to_json, to_markdown
from rpc_wrapper.bench.workload import Workload
from rpc_wrapper.cli.measure import measure
from rpc_wrapper.errors import ConfigError


def bench(
    target: Annotated[list[str], typer.Option(metavar="NAME=URL[,KEY]", help="Repeat it; the first is the baseline.")],
    streams: Annotated[str, typer.Option(help="Clients at once; a list measures each.")] = "1,8",
    prompt_tokens: Annotated[int, typer.Option(help="Exact length of each prompt.")] = 64,
    n_predict: Annotated[int, typer.Option(help="Exact length of each answer.")] = 64,
    requests: Annotated[int, typer.Option(help="Requests of each client in a round, one after the other.")] = 1,
    rate: Annotated[float | None, typer.Option(help="Requests/s at random times, instead of one by one.")] = None,
    repeats: Annotated[int, typer.Option(help="Rounds of each target that count.")] = 5,
    warm_up: Annotated[int, typer.Option(help="Rounds of each target before, thrown away.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of prompts and arrivals.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every round there.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables there too.")] = None,
) -> None:
    """Measure tokens per second and latencies of llama-server endpoints, ours or bare ones."""
    targets = [parse_target(text) for text in target]
    workloads = [Workload(prompt_tokens, n_predict, count, requests, rate) for count in parse_counts(streams)]
    schedule = Schedule(repeats, warm_up, seed)
    result, environment = asyncio.run(measure(targets, workloads, schedule, without_keys(sys.argv)))
    text = to_markdown(result, environment)
    typer.echo(text)
    if markdown:
        markdown.write_text(text)
    if json_file:
        json_file.write_text(json.dumps(to_json(result, environment), indent=1) + "\n")


def parse_target(text: str) -> Target:
    """Parse ``NAME=URL[,KEY]``; raise ConfigError."""
    name, _, rest = text.partition("=")
    url, _, key = rest.partition(",")
    if not name or not url.startswith(("http://", "https://")):
        raise ConfigError(f"target {name!r} is malformed: write NAME=URL[,KEY], for example ours=http://localhost:8080")
    return Target(name, url.rstrip("/"), key or None)


def parse_counts(text: str) -> list[int]:
    """Parse ``1,8``; raise ConfigError."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--streams {text!r} is no list of numbers: write 1,8") from None


def without_keys(argv: list[str]) -> str:
    """Return a command line that may be published: what follows the comma of a target is its key."""
    shown = ["rpc-wrapper", *argv[1:]]
    return shlex.join(word.partition(",")[0] + ",KEY" if "=http" in word and "," in word else word for word in shown)

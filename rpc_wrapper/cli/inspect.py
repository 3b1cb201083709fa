"""``rpc-wrapper inspect``: what a GGUF says about its model, and how fast backends compute its blocks."""

import asyncio
import json
import ssl
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rpc_wrapper.cli import benchmark as bench
from rpc_wrapper.cli.options import environment, with_tls
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.planner import read_profile
from rpc_wrapper.planner.report import profile_view


@with_tls
def inspect(
    model: Annotated[Path, typer.Argument(help="A GGUF file, or the first of its parts.")],
    tls: ssl.SSLContext | None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, every tensor included.")] = False,
    benchmark: Annotated[bool, typer.Option(help="Time its blocks on each backend of --rpc.")] = False,
    rpc: Annotated[str, typer.Option(metavar="HOST:PORT,...", help="Backends to time it on.")] = "",
) -> None:
    """Print a model's blocks, sizes, heads, context and tokenizer without loading it."""
    profile = read_profile(model)
    if benchmark != bool(rpc):
        raise ConfigError("--benchmark and --rpc HOST:PORT,... go together: give both, or neither")
    if benchmark:
        devices = asyncio.run(bench.measure(model, profile, rpc, environment(), tls))
        if as_json:
            typer.echo(json.dumps(bench.to_json(devices, profile), indent=2))
        else:
            Console().print(bench.speed_table(devices, profile))
    elif as_json:
        typer.echo(json.dumps(profile.to_json(), indent=2, ensure_ascii=False))
    else:
        Console().print(profile_view(profile))

"""``rpc-wrapper inspect``: what a GGUF says about its model."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rpc_wrapper.planner import read_profile
from rpc_wrapper.planner.report import profile_view


def inspect(
    model: Annotated[Path, typer.Argument(help="A GGUF file, or the first of its parts.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, every tensor included.")] = False,
) -> None:
    """Print a model's blocks, sizes, heads, context and tokenizer without loading it."""
    profile = read_profile(model)
    if as_json:
        typer.echo(json.dumps(profile.to_json(), indent=2, ensure_ascii=False))
    else:
        Console().print(profile_view(profile))

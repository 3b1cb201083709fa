"""``rpc-wrapper truncate``: keep a model's first blocks only."""

from pathlib import Path
from typing import Annotated

import typer

from rpc_wrapper.devices import MIB


def truncate(
    model: Annotated[Path, typer.Argument(help="A GGUF file, or the first of its parts.")],
    layers: Annotated[int, typer.Option("--layers", help="How many blocks to keep, from the first.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a model that exits early: embedding, the first K blocks, and the output.

    The result runs by itself, or serves as a draft model.
    """
    from rpc_wrapper.planner.truncate import truncate_model

    profile = truncate_model(model, output, layers, overwrite=overwrite)
    typer.echo(f"{output}: {profile.n_layer} blocks, {profile.file_bytes / MIB:.1f} MiB")

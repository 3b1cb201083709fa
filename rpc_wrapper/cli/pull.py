"""``rpc-wrapper pull``: get a model file, by name or by address."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from rpc_wrapper.errors import ConfigError
from rpc_wrapper.pull import CATALOGUE, Download, Source, resolve
from rpc_wrapper.pull.catalogue import HUB

GIB = 1024**3


def pull(
    model: Annotated[
        str | None, typer.Argument(metavar="[URL|NAME]", help="A .gguf's address, or a name of --list.")
    ] = None,
    list_models: Annotated[bool, typer.Option("--list", help="List the names, with sizes and memory needed.")] = False,
    output_dir: Annotated[Path, typer.Option(help="Folder to put it in.")] = Path("models"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file of the same name.")] = False,
    sha256: Annotated[str | None, typer.Option(help="Digest the file must have.")] = None,
    hub: Annotated[str, typer.Option(envvar="HF_ENDPOINT", help="Address of the hub, or of a mirror.")] = HUB,
    token: Annotated[str | None, typer.Option(envvar="HF_TOKEN", help="Token for the hub; better in HF_TOKEN.")] = None,
) -> None:
    """Download a model; run it again to go on where it was broken off."""
    if list_models:
        Console().print(_table())
        return
    if model is None:
        raise ConfigError("pull needs the address of a .gguf or a name: see rpc-wrapper pull --list")
    source = resolve(model, hub=hub, sha256=sha256)
    target = output_dir / source.file
    _download(source, target, token=token if source.url.startswith(f"{hub.rstrip('/')}/") else None, force=force)


def _download(source: Source, target: Path, *, token: str | None, force: bool) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(source.file, total=source.size_bytes)
        download = Download(
            source, target, token=token, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
        if download.is_done():
            bar.update(task, completed=source.size_bytes)
        else:
            download.run(overwrite=force)
    typer.echo(f"{target} is there: APP_MODEL={target}")


def _table() -> Table:
    table = Table("name", "file", "GiB", "memory, GiB", box=None, pad_edge=False)
    for entry in CATALOGUE:
        sizes = f"{entry.size_bytes / GIB:.1f}", f"{entry.ram_bytes / GIB:.1f}"
        table.add_row(entry.name, entry.source().file, *sizes)
    return table

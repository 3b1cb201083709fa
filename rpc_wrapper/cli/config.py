"""`rpc-wrapper config`: which settings are in force, and where each came from."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from rpc_wrapper.config import Loaded, load_settings
from rpc_wrapper.config.variables import rows, text

WIDE = 120  # columns; below, the meanings would squeeze the values


def config(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    defaults: Annotated[bool, typer.Option("--defaults", help="Print the defaults, whatever is set.")] = False,
    file: Annotated[Path | None, typer.Option("--config", help="YAML or JSON file of settings.")] = None,
    template: Annotated[str | None, typer.Option(help="Named set of settings.")] = None,
) -> None:
    """Print every setting, its value and where the value came from; secrets are only counted."""
    from rpc_wrapper.engine.machine import is_container

    loaded = load_settings(
        {"config": file, "template": template}, {} if defaults else None, in_container=is_container()
    )
    print(to_json(loaded)) if as_json else print_table(loaded)
    if not as_json:
        for warning in loaded.warnings:
            print(f"warning: {warning}", file=sys.stderr)


def to_json(loaded: Loaded) -> str:
    """Return ``{"settings": {field: {variable, value, source, description}}, "warnings": []}``."""
    settings = {
        row.field: {"variable": row.variable, "value": row.value, "source": row.source, "description": row.description}
        for row in rows(loaded)
    }
    return json.dumps({"settings": settings, "warnings": loaded.warnings}, indent=2, ensure_ascii=False)


def print_table(loaded: Loaded) -> None:
    """Print one line per setting, those that were set in bold, with their meaning where the terminal is wide."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    headings = ["variable", "value", "from", "meaning"][: 4 if console.width >= WIDE else 3]
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading == "variable")
    for row in rows(loaded):
        cells = (row.variable, text(row.value), row.source, row.description)[: len(headings)]
        table.add_row(*(Text(cell, style="" if row.source == "default" else "bold") for cell in cells))
    console.print(table)

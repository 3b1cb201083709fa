"""``rpc-wrapper doctor``: say what this machine and its engine can do, what is wrong, and how to mend it."""

import asyncio
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rpc_wrapper.cli.options import with_identity
from rpc_wrapper.cli.reach import backend_findings, tls_findings
from rpc_wrapper.engine import checkup
from rpc_wrapper.link.tls import Identity

DEMO_MODEL = Path(__file__).parents[2] / "models" / "demo.gguf"
MARKS = {
    checkup.Verdict.OK: ("ok", "green"),
    checkup.Verdict.NOTICE: ("!", "yellow"),
    checkup.Verdict.WRONG: ("x", "red"),
}


@with_identity
def doctor(
    identity: Identity | None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    engine_dir: Annotated[
        Path | None, typer.Option(envvar="APP_ENGINE_DIR", help="Folder of the llama.cpp programs.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A GGUF for the self-test of computation; the demo model by default.")
    ] = None,
    rpc: Annotated[str, typer.Option(metavar="HOST:PORT,...", help="Backends this machine should reach.")] = "",
) -> None:
    """Check the engine, its computation, CPU, memory, limits, ports and certificates of this machine.

    The exit code is 0 when this machine is usable, else 1.
    """
    demo = DEMO_MODEL if DEMO_MODEL.is_file() else None
    findings = checkup.examine(checkup.gather(engine_dir, model or demo))
    certificates = tls_findings(identity, datetime.datetime.now(datetime.UTC))
    findings += certificates
    if checkup.is_usable(certificates):
        findings += asyncio.run(backend_findings(rpc, identity))
    if as_json:
        typer.echo(json.dumps(checkup.to_json(findings), indent=2, ensure_ascii=False))
    else:
        _print(findings)
    if not checkup.is_usable(findings):
        raise typer.Exit(1)


def _print(findings: Sequence[checkup.Finding]) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False)
    for heading in ("", "section", "subject", "finding"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        mark, style = MARKS[finding.verdict]
        table.add_row(Text(mark, style), finding.section, Text(finding.subject), Text(finding.value))
    console.print(table)
    for finding in findings:
        if finding.advice:
            console.print(f"{finding.subject}: {finding.advice}", markup=False, highlight=False, soft_wrap=True)
    console.print("This machine is usable." if checkup.is_usable(findings) else "This machine is not usable yet.")

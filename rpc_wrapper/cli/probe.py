"""``rpc-wrapper probe``: ask endpoints who they are, whether they are free, and what memory they have."""

import asyncio
import json
import ssl
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from rpc_wrapper.cli.options import with_tls
from rpc_wrapper.devices import Endpoint, parse_endpoints
from rpc_wrapper.gateway.backends import open_scout
from rpc_wrapper.rpc import report


@with_tls
def probe(
    endpoints: Annotated[list[str], typer.Argument(metavar="HOST:PORT...", help="The backends to ask.")],
    tls: ssl.SSLContext | None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.01, help="Seconds that each step may take.")] = 2.0,
) -> None:
    """Ask backends for their state, protocol, devices, memory, budget and round-trip time.

    A name with several addresses is several backends. The exit code is 0 when every one is ok or busy, else 1.
    """
    lines = asyncio.run(_ask(parse_endpoints(",".join(endpoints)), tls, timeout_s))
    if as_json:
        typer.echo(json.dumps(report.to_json(lines), indent=2, ensure_ascii=False))
    else:
        console = Console()
        console.print(report.to_table(lines))
        for sentence in report.details(lines):
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    if not all(line.result.state.is_alive for line in lines):
        raise typer.Exit(1)


async def _ask(endpoints: Sequence[Endpoint], tls: ssl.SSLContext | None, timeout_s: float) -> list[report.ReportLine]:
    async with open_scout(tls, probe_timeout_s=timeout_s) as scout:
        return [report.ReportLine(each.probe, each.agent, each.listed) for each in await scout.survey(endpoints)]

"""``rpc-wrapper probe``: ask endpoints who they are, whether they are free, and what memory they have."""

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated

import httpx
import typer
from rich.console import Console

from rpc_wrapper.devices import Endpoint, parse_endpoints
from rpc_wrapper.rpc import report
from rpc_wrapper.rpc.client import probe as probe_endpoint
from rpc_wrapper.rpc.result import ProbeState

AGENT_TIMEOUT_S = 1.0


def probe(
    endpoints: Annotated[list[str], typer.Argument(metavar="HOST:PORT...", help="The backends to ask.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.01, help="Seconds that each step may take.")] = 2.0,
) -> None:
    """Ask backends for their state, protocol, devices, memory, budget and round-trip time.

    The exit code is 0 when every one is ok or busy, else 1.
    """
    lines = asyncio.run(_ask_all(parse_endpoints(",".join(endpoints)), timeout_s))
    if as_json:
        typer.echo(json.dumps(report.to_json(lines), indent=2, ensure_ascii=False))
    else:
        console = Console()
        console.print(report.to_table(lines))
        for sentence in report.details(lines):
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    if not all(line.result.state.is_alive for line in lines):
        raise typer.Exit(1)


async def _ask_all(endpoints: Sequence[Endpoint], timeout_s: float) -> list[report.ReportLine]:
    async with httpx.AsyncClient(timeout=AGENT_TIMEOUT_S, trust_env=False) as http:
        return list(await asyncio.gather(*(_ask(endpoint, timeout_s, http) for endpoint in endpoints)))


async def _ask(endpoint: Endpoint, timeout_s: float, http: httpx.AsyncClient) -> report.ReportLine:
    result = await probe_endpoint(endpoint, timeout_s=timeout_s)
    if result.state is ProbeState.UNRESOLVABLE or endpoint.agent > 65535:
        return report.ReportLine(result)
    return report.ReportLine(result, await _ask_agent(endpoint, http))


async def _ask_agent(endpoint: Endpoint, http: httpx.AsyncClient) -> report.AgentStatus | None:
    try:
        url = httpx.URL(scheme="http", host=endpoint.host, port=endpoint.agent, path="/status")
        async with asyncio.timeout(AGENT_TIMEOUT_S):
            return report.AgentStatus.from_json((await http.get(url)).json())
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError):  # nobody, or somebody who is no agent
        return None

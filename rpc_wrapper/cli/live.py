"""Show on a terminal what a cluster's processes are doing; elsewhere print a line per change."""

import asyncio
import sys
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rpc_wrapper.supervisor import Runner, Snapshot, State

COLOURS = {State.READY: "green", State.FAILED: "red", State.BACKOFF: "yellow", State.FENCING: "yellow"}
REFRESH_S = 0.25


async def show(runners: Sequence[Runner], url: str, *, quiet: bool) -> None:
    """Show the runners' states until cancelled; `runners[0]` is the server. Nothing is shown when `quiet`."""
    console = Console(stderr=True)
    if quiet:
        return
    if console.is_terminal:
        await _show_live(runners, url, console)
    else:
        await _print_changes(runners, url)


async def _show_live(runners: Sequence[Runner], url: str, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as screen:
        while True:
            snapshots = [runner.snapshot() for runner in runners]
            screen.update(Group(table(snapshots), Text(hint(snapshots[0], url))), refresh=True)
            await asyncio.sleep(REFRESH_S)


async def _print_changes(runners: Sequence[Runner], url: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        for runner in runners:
            tasks.create_task(_print_changes_of(runner, url if runner is runners[0] else None))


async def _print_changes_of(runner: Runner, url: str | None) -> None:
    said: tuple[State, str] | None = None
    async for snapshot in runner.subscribe():
        if said != (said := (snapshot.state, snapshot.reason)):
            print(f"{snapshot.name}: {snapshot.state.value}: {snapshot.reason}", file=sys.stderr, flush=True)
            if url and snapshot.state is State.READY:
                print(hint(snapshot, url), file=sys.stderr, flush=True)


def table(snapshots: Sequence[Snapshot]) -> Table:
    """Return a row per process."""
    view = Table("process", "pid", "state", "since start", "what", box=None, header_style="bold", pad_edge=False)
    for snapshot in snapshots:
        state = Text(snapshot.state.value, COLOURS.get(snapshot.state, "cyan"))
        what = snapshot.progress or snapshot.reason
        view.add_row(snapshot.name, str(snapshot.pid or "-"), state, f"{snapshot.restarts} restarts", Text(what))
    return view


def hint(server: Snapshot, url: str) -> str:
    """Return the line to copy once the server is ready."""
    if server.state is not State.READY:
        return "\nstarting ... Ctrl-C ends everything"
    body = '{"prompt":"Once upon a time","n_predict":64}'
    curl = f"curl -d '{body}' {url}/completion"
    return f"\nready: open {url}/ in a browser, or try (Ctrl-C ends everything)\n\n  {curl}\n"

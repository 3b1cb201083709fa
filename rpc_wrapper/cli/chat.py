"""``rpc-wrapper chat``: a conversation with a gateway, in the terminal."""

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rpc_wrapper.cli.ask import URL, ApiKey, Url, checked_url
from rpc_wrapper.errors import ConfigError, ConnectError, UpstreamError
from rpc_wrapper.talk.answer import Times, printable, totals
from rpc_wrapper.talk.client import Client, Where, chat_question
from rpc_wrapper.talk.session import PRESETS, Do, Session, understand

HELP = "A number asks that question; /all asks them all; /stats, /reset, /help; quit or exit leaves."


@dataclass(frozen=True, slots=True)
class Style:
    """How answers are to be."""

    max_tokens: int
    temperature: float


def chat(
    url: Url = URL,
    api_key: ApiKey = "",
    system_prompt: Annotated[str, typer.Option(help="What the model is told first.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token each time.")] = 0.7,
    questions: Annotated[Path | None, typer.Option(metavar="FILE", help="Preset questions, one per line.")] = None,
) -> None:
    """Talk to a model: answers as they come, the conversation remembered, preset questions, /stats, quit."""
    talk = Talk(Where(checked_url(url), api_key.partition(",")[0]), Style(max_tokens, temperature), _presets(questions))
    talk.session.system = system_prompt
    talk.run()


class Talk:
    """One conversation on a terminal, or with whoever writes to our stdin."""

    def __init__(self, where: Where, style: Style, presets: tuple[str, ...]) -> None:
        self.session = Session()
        self._where = where
        self._style = style
        self._presets = presets

    def run(self) -> None:
        """Answer line by line until somebody leaves."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (arrow keys and the history of what was typed)
        self._greet()
        while True:
            try:
                line = input("> " if sys.stdin.isatty() else "")
            except (EOFError, KeyboardInterrupt):
                typer.echo()
                return
            what, text = understand(line, self._presets)
            if what is Do.LEAVE:
                return
            self._do(what, text)

    def _do(self, what: Do, text: str) -> None:
        match what:
            case Do.ASK:
                self._ask(text)
            case Do.ALL:
                for question in self._presets:
                    typer.echo(f"> {question}")
                    self._ask(question)
            case Do.STATS:
                self._show_stats()
            case Do.RESET:
                self.session.reset()
                typer.echo("What was said is forgotten.")
            case Do.HELP:
                self._greet()
            case Do.UNKNOWN:
                typer.echo(f"{text} is no command. {HELP}")

    def _greet(self) -> None:
        for number, question in enumerate(self._presets, 1):
            typer.echo(f"{number}. {question}")
        typer.echo(HELP)

    def _ask(self, question: str) -> None:
        """Print an answer as it comes; Ctrl-C stops it and keeps the conversation as it was before."""
        try:
            text, times = asyncio.run(self._answer(question))
        except KeyboardInterrupt:
            typer.echo("\n(stopped)")
            return
        except (ConnectError, UpstreamError) as error:
            typer.echo(f"\n{printable(str(error))}", err=True)
            return
        self.session.answered(question, text, times)
        typer.secho(f"\n({times})", dim=True)

    async def _answer(self, question: str) -> tuple[str, Times]:
        asked = chat_question(self.session.asking(question), self._style.max_tokens, self._style.temperature)
        async with Client(self._where) as client:
            return await client.answer(asked, lambda text: typer.echo(printable(text), nl=False))

    def _show_stats(self) -> None:
        times = self.session.times
        for number, each in enumerate(times, 1):
            typer.echo(f"{number}. {each}")
        if times:
            typer.echo(f"All {len(times)} answers: {totals(times)}")
        try:
            typer.echo(cluster_line(asyncio.run(self._cluster())))
        except (ConnectError, UpstreamError) as error:
            typer.echo(printable(str(error)), err=True)

    async def _cluster(self) -> dict[str, Any]:
        async with Client(self._where) as client:
            return await client.cluster()


def cluster_line(cluster: dict[str, Any]) -> str:
    """Return in a sentence how the cluster is."""
    parts = (cluster.get("plan") or {}).get("assignments", ())
    places = ", ".join(
        f"{each['endpoint'] or 'the server itself'} blocks {each['first_block']}-{each['last_block']}" for each in parts
    )
    text = f"{cluster.get('model') or 'The model'} is {cluster.get('state', 'unknown')}"
    return f"{text}, {cluster.get('restarts', 0)} restarts" + (f"; {places}." if places else ".")


def _presets(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return PRESETS
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--questions {file} cannot be read: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())

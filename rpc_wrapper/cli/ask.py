"""``rpc-wrapper ask``: one question, and of each token how long server and network took."""

import asyncio
import sys
from typing import Annotated

import httpx
import typer

from rpc_wrapper.errors import ConfigError
from rpc_wrapper.talk.answer import printable
from rpc_wrapper.talk.client import Client, Question, Where, chat_question, plain_question
from rpc_wrapper.talk.split import Token

URL = "http://127.0.0.1:8080"
SYSTEM_PROMPT = "You are a helpful assistant."

Url = Annotated[str, typer.Option(metavar="URL", help="The gateway to ask.")]
ApiKey = Annotated[
    str, typer.Option(envvar="APP_API_KEYS", metavar="KEY", help="Its key, if it wants one.", show_envvar=True)
]


def ask(
    question: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="The question; stdin if not given.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(envvar=["PROMPT", "DEFAULT_PROMPT"], help="The question, as an option.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(envvar="MAX_NEW_TOKENS", min=1, help="Longest answer.")] = 30,
    system_prompt: Annotated[
        str, typer.Option(envvar="SYSTEM_PROMPT", help="What the model is told first.")
    ] = SYSTEM_PROMPT,
    use_chat_template: Annotated[
        bool, typer.Option(envvar="USE_CHAT_TEMPLATE", help="Put the model's chat template around it.")
    ] = True,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token each time.")] = 0,
    url: Url = URL,
    api_key: ApiKey = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer only.")] = False,
) -> None:
    """Ask once; print each token with its time on the server and on network and backends."""
    text = question or prompt or _typed()
    if use_chat_template:
        messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
        asked = chat_question([*messages, {"role": "user", "content": text}], max_new_tokens, temperature)
    else:
        asked = plain_question(text, max_new_tokens, temperature)
    asyncio.run(_ask(Where(checked_url(url), api_key.partition(",")[0]), asked, quiet))


async def _ask(where: Where, question: Question, quiet: bool) -> None:
    tokens: list[Token] = []

    def say(token: Token) -> None:
        tokens.append(token)
        if not quiet:
            typer.echo(line(token))

    async with Client(where) as client:
        text, times = await client.split_answer(question, say)
        links = (await client.cluster()).get("links") or ()
    if quiet:
        typer.echo(printable(text))
        return
    typer.echo(f"\n{printable(text)}\n")
    typer.echo(f"{times}.")
    remote_s = sum(token.remote_s for token in tokens)
    trips = [1000 * link["rtt_s"] for link in links if link.get("rtt_s") is not None]
    trip = f"; the longest round trip to a backend is {max(trips):.1f} ms" if trips else ""
    local_s = sum(token.total_s for token in tokens) - remote_s
    typer.echo(f"Server {local_s:.3f} s, network and backends {remote_s:.3f} s{trip}.")


def line(token: Token) -> str:
    """Return a token's line: the times are seconds since the token before, the first one's since the question."""
    return (
        f"[Token {token.number}] {printable(token.text)!r} | server {token.local_s:.4f} s"
        f" | network + backends {token.remote_s:.4f} s"
    )


def checked_url(url: str) -> str:
    """Return a gateway's address without a final slash; raise ConfigError."""
    try:
        is_address = url.startswith(("http://", "https://")) and bool(httpx.URL(url).host)
    except httpx.InvalidURL:
        is_address = False
    if not is_address:
        raise ConfigError(f"--url {url!r} is no address of a gateway: write for example {URL}")
    return url.rstrip("/")


def _typed() -> str:
    """Return what comes on stdin, asking for it on a terminal; raise ConfigError when it is nothing."""
    if sys.stdin.isatty():
        typer.echo("Enter prompt: ", nl=False, err=True)
        text = sys.stdin.readline()
    else:
        text = sys.stdin.read()
    if not text.strip():
        raise ConfigError('nothing is asked: write rpc-wrapper ask "…", or give it on stdin')
    return text.strip()

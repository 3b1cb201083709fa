"""Ask a gateway over HTTP, and hear its answer as it comes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from rpc_wrapper.errors import ConnectError, UpstreamError
from rpc_wrapper.talk.answer import Delta, Times, error_text, read_line
from rpc_wrapper.talk.split import Splitter, Token

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 900.0  # a recovery may take long, and the gateway waits for it


@dataclass(frozen=True, slots=True)
class Where:
    """A gateway's address, and the key it wants."""

    url: str
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask, at which endpoint."""

    path: str
    body: dict[str, Any]


def chat_question(messages: list[dict[str, str]], max_tokens: int, temperature: float) -> Question:
    """Return a question that the model's chat template is put around."""
    body = {"messages": messages, "max_tokens": max_tokens, "temperature": temperature, "stream": True}
    return Question("/v1/chat/completions", body)


def plain_question(prompt: str, max_tokens: int, temperature: float) -> Question:
    """Return a text to be continued as it is."""
    body = {"prompt": prompt, "n_predict": max_tokens, "temperature": temperature, "stream": True}
    return Question("/completion", body)


class Client:
    """A connection to one gateway, as an asynchronous context."""

    def __init__(self, where: Where) -> None:
        headers = {"Authorization": f"Bearer {where.api_key}"} if where.api_key else {}
        timeout = httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._url = where.url
        self._http = httpx.AsyncClient(base_url=where.url, headers=headers, timeout=timeout, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.aclose()

    async def answer(self, question: Question, say: Callable[[str], None]) -> tuple[str, Times]:
        """Say an answer piece by piece; return it whole, and its times. Raises ConnectError or UpstreamError."""
        began_s = time.perf_counter()
        first_s: float | None = None
        text, counted, told, resumed, is_whole = "", 0, None, 0, False
        async for delta in self._deltas(question):
            is_whole = is_whole or delta.is_last
            if delta.text:
                first_s = first_s or time.perf_counter()
                counted += 1
                text += delta.text
                say(delta.text)
            told, resumed = delta.n_tokens or told, max(resumed, delta.resumed)
        if not is_whole:
            raise UpstreamError(f"the answer broke off after {counted} tokens: ask again, /cluster says what happened")
        ended_s = time.perf_counter()
        return text, Times((first_s or ended_s) - began_s, ended_s - began_s, told or counted, resumed)

    async def split_answer(self, question: Question, say: Callable[[Token], None]) -> tuple[str, Times]:
        """Say an answer token by token, each with its time split; return it whole, and its times."""
        before = await self.cluster()
        mode = ((before.get("plan") or {}).get("workload") or {}).get("split_mode")
        splitter = Splitter(time.perf_counter(), waited_s(before), side_by_side=mode == "tensor")
        news, over = asyncio.Event(), asyncio.Event()

        def came(text: str) -> None:
            splitter.came(text, time.perf_counter())
            news.set()

        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look(splitter, news, over, say))
            try:
                outcome = await self.answer(question, came)
            except (ConnectError, UpstreamError) as error:
                looking.cancel()
                failure: Exception | None = error
            else:
                failure = None
                over.set()
                news.set()
        if failure is not None:  # raised in the group, it would come wrapped
            raise failure
        return outcome

    async def _look(
        self, splitter: Splitter, news: asyncio.Event, over: asyncio.Event, say: Callable[[Token], None]
    ) -> None:
        """Look at the links' counters whenever tokens came, and once more at the end."""
        while not over.is_set() or splitter.has_pending:
            await news.wait()
            news.clear()
            for token in splitter.looked(waited_s(await self.cluster())):
                say(token)

    async def cluster(self) -> dict[str, Any]:
        """Return ``GET /cluster``; raise ConnectError or UpstreamError."""
        try:
            response = await self._http.get("/cluster")
        except httpx.HTTPError as error:
            raise self._no_answer(error) from None
        if response.is_error:
            raise UpstreamError(_refusal(response))
        try:
            return dict(response.json())
        except (ValueError, TypeError):
            raise UpstreamError(f"what answers at {self._url} is no gateway: name another with --url") from None

    async def _deltas(self, question: Question) -> AsyncIterator[Delta]:
        try:
            async with self._http.stream("POST", question.path, json=question.body) as response:
                if response.is_error:
                    await response.aread()
                    raise UpstreamError(_refusal(response))
                async for line in response.aiter_lines():
                    delta = read_line(line)
                    if delta is not None:
                        yield delta
        except httpx.HTTPError as error:
            raise self._no_answer(error) from None

    def _no_answer(self, error: httpx.HTTPError) -> ConnectError | UpstreamError:
        what = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ConnectError(f"no server answers at {self._url} ({what}): start one, or name another with --url")
        return UpstreamError(f"the connection to {self._url} was lost ({what}): ask again")


def waited_s(cluster: dict[str, Any]) -> dict[str, float]:
    """Return how long llama-server has waited for each backend's stages, from ``/cluster``."""
    return {str(link["endpoint"]): float(link["stage_waited_s"]) for link in cluster.get("links") or ()}


def _refusal(response: httpx.Response) -> str:
    try:
        text = error_text(response.json())
    except ValueError:
        text = response.text[:200]
    return f"the server refused with {response.status_code}: {text}"

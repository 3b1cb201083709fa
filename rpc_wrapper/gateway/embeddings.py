"""Ask for embeddings text by text, for read together they come out wrong.

Texts of several slots share a batch. With a KV cache per slot the batch is cut into pieces in which all texts have the
same length (llama-kv-cache.cpp, split_equal), and each piece is pooled by itself (llama-graph.cpp,
llm_graph_input_mean): of all but the shortest text only the last piece counts, and nothing tells so. One text after
another is right, whether they come in one request or in many.

A text is also never in one batch with completions, which go first (server-context.cpp, can_batch_with): while anybody
generates it waits, and under a load without a gap for ever. So whoever comes later waits, once a text has waited long.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from rpc_wrapper.gateway.endpoints import Kind, Shape
from rpc_wrapper.gateway.errors import EngineLost, Refusal
from rpc_wrapper.gateway.exchange import EngineAnswer, EngineRequest, Exchange
from rpc_wrapper.gateway.fields import parse_object

PATIENCE_S = 1.0  # most loads have gaps of their own


class TextByText:
    """An exchange that lets one text at a time be embedded, over all requests.

    Everything else goes through, unless a text has waited for ``patience_s``: then it begins only after that text.
    """

    def __init__(self, direct: Exchange, patience_s: float = PATIENCE_S) -> None:
        self._direct = direct
        self._patience_s = patience_s
        self._turn = asyncio.Lock()  # for one text, not for one request: a long list delays others, but does not block
        self._door = asyncio.Event()  # open for those who generate
        self._door.set()

    @asynccontextmanager
    async def __call__(self, request: EngineRequest) -> AsyncIterator[EngineAnswer]:
        """Yield the engine's answer; to several texts one that is made of the answers to each."""
        bodies = split(request)
        if bodies is None:
            if request.endpoint.kind is Kind.INFERENCE:
                await self._door.wait()
            async with self._direct(request) as answer:
                yield answer
        elif len(bodies) == 1:
            async with self._embedding(), self._direct(request) as answer:
                yield answer
        else:
            yield await self._several(request, bodies)

    @asynccontextmanager
    async def _embedding(self) -> AsyncIterator[None]:
        """Hold the turn of a text; shut the door behind those who generate already when that takes long."""
        async with self._turn:
            shutting = asyncio.get_running_loop().call_later(self._patience_s, self._door.clear)
            try:
                yield
            finally:
                shutting.cancel()
                self._door.set()

    async def _several(self, request: EngineRequest, bodies: Sequence[bytes]) -> EngineAnswer:
        """Return one answer to all texts, or the first that is a refusal."""
        contents: list[bytes] = []
        for body in bodies:
            async with self._embedding(), self._direct(replace(request, body=body)) as answer:
                content = b"".join([chunk async for chunk in answer.chunks])
            if answer.status != 200:
                return replace(answer, chunks=_once(content))
            contents.append(content)
        whole = joined(contents)
        kept = [(name, value) for name, value in answer.headers if name.lower() != b"content-length"]
        return EngineAnswer(200, [*kept, (b"content-length", str(len(whole)).encode())], _once(whole))


def split(request: EngineRequest) -> list[bytes] | None:
    """Return the bodies to ask with, one per text; None where nothing is embedded.

    What is one text and what are several is as the engine has it (server-common.cpp, tokenize_input_prompts): a list of
    token ids, or of ids and strings mixed, is one.
    """
    if request.method != "POST" or request.endpoint.shape is not Shape.EMBEDDING:
        return None
    try:
        value = parse_object(request.body)
    except Refusal:
        return [request.body]  # the engine says what is wrong with it
    name = "input" if "input" in value else "content"
    texts = value.get(name)
    if not isinstance(texts, list) or len(texts) < 2 or _is_one(texts):
        return [request.body]
    return [json.dumps({**value, name: text}, ensure_ascii=False).encode() for text in texts]


def _is_one(texts: Sequence[Any]) -> bool:
    return any(isinstance(item, int) for item in texts) and all(isinstance(item, int | str) for item in texts)


def joined(contents: Sequence[bytes]) -> bytes:
    """Return one answer for the answers to each text, in either of the engine's two forms; raise EngineLost."""
    try:
        values = [json.loads(content) for content in contents]
        if isinstance(values[0], list):
            return _encode([{**item, "index": index} for index, (item,) in enumerate(values)])
        data = [{**value["data"][0], "index": index} for index, value in enumerate(values)]
        usage = {name: sum(value["usage"][name] for value in values) for name in values[0]["usage"]}
        return _encode({**values[0], "data": data, "usage": usage})
    except (ValueError, TypeError, LookupError) as error:
        raise EngineLost("The engine answered something else than embeddings.", answered=True) from error


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content

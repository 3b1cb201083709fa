"""Several texts are embedded one after another, and answered as if they had been together."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from rpc_wrapper.gateway.embeddings import TextByText, joined, split
from rpc_wrapper.gateway.endpoints import find_endpoint
from rpc_wrapper.gateway.errors import EngineLost
from rpc_wrapper.gateway.exchange import EngineAnswer, EngineRequest

Answering = Callable[[dict[str, Any]], tuple[int, Any]]


def asked(body: Any, path: str = "/v1/embeddings") -> EngineRequest:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = [(b"content-type", b"application/json")]
    return EngineRequest(find_endpoint("POST", path), "POST", b"", headers, content, "r1", 1.0)


class Engine:
    """An exchange that embeds a text as its length; it knows how many it was asked for at once."""

    def __init__(self, answering: Answering) -> None:
        self.bodies: list[bytes] = []
        self.at_once = self.most_at_once = 0
        self._answering = answering

    @asynccontextmanager
    async def __call__(self, request: EngineRequest) -> AsyncIterator[EngineAnswer]:
        self.bodies.append(request.body)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        status, value = self._answering(json.loads(request.body or b"{}"))
        content = json.dumps(value).encode()
        yield EngineAnswer(status, [(b"Content-Length", str(len(content)).encode())], chunks(content))
        self.at_once -= 1


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content[:3]
    yield content[3:]


def openai(value: dict[str, Any]) -> tuple[int, Any]:
    count = len(str(value["input"]))
    data = [{"embedding": [count / 7], "index": 0, "object": "embedding"}]
    return 200, {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": count, "total_tokens": count}}


def native(value: dict[str, Any]) -> tuple[int, Any]:
    return 200, [{"index": 0, "embedding": [[len(value["content"]) / 7]]}]


async def answer_of(exchange: TextByText, request: EngineRequest) -> tuple[EngineAnswer, Any]:
    async with exchange(request) as answer:
        return answer, json.loads(b"".join([chunk async for chunk in answer.chunks]))


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ({"input": ["a", "b"], "x": 1}, [{"input": "a", "x": 1}, {"input": "b", "x": 1}]),
        ({"content": ["猫", [1, 2]]}, [{"content": "猫"}, {"content": [1, 2]}]),
        ({"input": [[1, 2], [3]]}, [{"input": [1, 2]}, {"input": [3]}]),
    ],
)
def test_several_texts_are_several_questions(value: dict[str, Any], texts: list[dict[str, Any]]):
    bodies = split(asked(value))
    assert bodies is not None
    assert [json.loads(body) for body in bodies] == texts


@pytest.mark.parametrize("value", [{"input": "a"}, {"input": ["a"]}, {"input": [1, 2]}, {"input": [1, "a"]}, {}, b"{"])
def test_one_text_goes_as_it_came(value: Any):
    request = asked(value)
    assert split(request) == [request.body]


def test_what_is_no_embedding_is_no_text():
    assert split(asked({"prompt": "a"}, "/completion")) is None
    assert split(replace(asked({"input": ["a", "b"]}), method="OPTIONS")) is None


async def test_the_answers_to_each_become_one():
    engine = Engine(openai)
    answer, value = await answer_of(TextByText(engine), asked({"input": ["a", "bb", "ccc"]}))
    assert [item["index"] for item in value["data"]] == [0, 1, 2]
    assert [item["embedding"] for item in value["data"]] == [[1 / 7], [2 / 7], [3 / 7]]
    assert value["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert (value["model"], value["object"]) == ("m", "list")
    lengths = [int(length) for name, length in answer.headers if name.lower() == b"content-length"]
    async with TextByText(engine)(asked({"input": ["a", "bb", "ccc"]})) as again:
        assert lengths == [len(b"".join([chunk async for chunk in again.chunks]))]


async def test_the_native_form_stays_the_native_form():
    _, value = await answer_of(TextByText(Engine(native)), asked({"content": ["a", "bb"]}, "/embedding"))
    assert value == [{"index": 0, "embedding": [[1 / 7]]}, {"index": 1, "embedding": [[2 / 7]]}]


async def test_no_two_texts_are_ever_at_the_engine():
    engine = Engine(openai)
    exchange = TextByText(engine)
    requests = [asked({"input": ["a", "bb"]}), asked({"input": "ccc"}), asked({"input": ["d"]})]
    await asyncio.gather(*(answer_of(exchange, request) for request in requests))
    assert len(engine.bodies) == 4
    assert engine.most_at_once == 1


async def test_a_long_list_lets_others_in_between():
    engine = Engine(openai)
    exchange = TextByText(engine)
    await asyncio.gather(
        answer_of(exchange, asked({"input": list("abcdefgh")})), answer_of(exchange, asked({"input": "other"}))
    )
    assert json.loads(engine.bodies[-1]) == {"input": "h"}


async def test_everything_else_is_not_held_up():
    engine = Engine(lambda _: (200, {}))
    exchange = TextByText(engine)
    async with exchange(asked({"prompt": "a"}, "/completion")), exchange(asked({"prompt": "b"}, "/completion")):
        assert engine.at_once == 2


class Busy:
    """An engine that embeds only while nobody generates, as the real one does."""

    def __init__(self) -> None:
        self.generating = 0
        self.began = asyncio.Event()
        self.text_is_here = asyncio.Event()
        self._idle = asyncio.Event()

    @asynccontextmanager
    async def __call__(self, request: EngineRequest) -> AsyncIterator[EngineAnswer]:
        if b"input" in request.body:
            self.text_is_here.set()
            await self._idle.wait()
            yield EngineAnswer(200, [], chunks(b"{}"))
            return
        self.generating += 1
        self._idle.clear()
        self.began.set()
        yield EngineAnswer(200, [], chunks(b"{}"))
        self.generating -= 1
        if not self.generating:
            self._idle.set()


async def test_a_text_that_has_waited_long_goes_before_whoever_comes_then():
    engine = Busy()
    exchange = TextByText(engine, patience_s=0.0)
    completion = asked({"prompt": "a"}, "/completion")
    async with exchange(completion):
        text = asyncio.create_task(answer_of(exchange, asked({"input": "a"})))
        await asyncio.wait_for(engine.text_is_here.wait(), 5)
        await asyncio.sleep(0)  # the door shuts
        engine.began.clear()
        late = asyncio.create_task(answer_of(exchange, completion))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.began.wait(), 0.1)
    await asyncio.wait_for(text, 5)
    await asyncio.wait_for(late, 5)


async def test_a_text_that_has_to_wait_a_little_only_holds_nobody_up():
    engine = Busy()
    exchange = TextByText(engine, patience_s=3600.0)
    completion = asked({"prompt": "a"}, "/completion")
    async with exchange(completion):
        text = asyncio.create_task(answer_of(exchange, asked({"input": "a"})))
        await asyncio.wait_for(engine.text_is_here.wait(), 5)
        await asyncio.wait_for(answer_of(exchange, completion), 5)
    await asyncio.wait_for(text, 5)


async def test_a_text_whose_client_left_opens_the_door_again():
    engine = Busy()
    exchange = TextByText(engine, patience_s=0.0)
    completion = asked({"prompt": "a"}, "/completion")
    async with exchange(completion):
        text = asyncio.create_task(answer_of(exchange, asked({"input": "a"})))
        await asyncio.wait_for(engine.text_is_here.wait(), 5)
        text.cancel()
        await asyncio.wait([text])
        await asyncio.wait_for(answer_of(exchange, completion), 5)


async def test_a_refusal_of_one_text_is_the_answer():
    def refusing(value: dict[str, Any]) -> tuple[int, Any]:
        return (400, {"error": "too long"}) if value["input"] == "bb" else openai(value)

    engine = Engine(refusing)
    answer, value = await answer_of(TextByText(engine), asked({"input": ["a", "bb", "ccc"]}))
    assert (answer.status, value, len(engine.bodies)) == (400, {"error": "too long"}, 2)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"data":[]}', b'{"data":[{}]}', b"1"])
def test_an_answer_that_is_none_counts_as_a_loss(content: bytes):
    with pytest.raises(EngineLost):
        joined([content, content])

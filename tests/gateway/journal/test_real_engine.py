"""The real llama-server, killed in the middle of every API's streams: what the fakes claim about it is true."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from rpc_wrapper.engine.binaries import find_engine
from rpc_wrapper.gateway.journal import ResumeConfig
from rpc_wrapper.gateway.journal.reading import Dialect, Nature, Reading, read
from rpc_wrapper.gateway.journal.sse import Splitter
from tests.gateway.journal.phoenix import Serving, rising

MODEL = Path(__file__).parent.parent.parent.parent / "models" / "demo.gguf"
CONFIG = ResumeConfig(replay_tokens=8)
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me a story."}]}
REQUESTS: list[tuple[str, Dialect, dict[str, Any]]] = [
    ("/completion", Dialect.NATIVE, {"prompt": "Once upon a time", "n_predict": 40, "temperature": 0}),
    ("/completion", Dialect.NATIVE, {"prompt": "Once upon a time", "n_predict": 40, "seed": 3, "mirostat": 2}),
    ("/v1/completions", Dialect.TEXT, {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0}),
    ("/v1/chat/completions", Dialect.CHAT, {**CHAT, "max_tokens": 30, "seed": 1}),
    ("/v1/messages", Dialect.MESSAGES, {**CHAT, "max_tokens": 30, "temperature": 0}),
    ("/v1/responses", Dialect.RESPONSES, {"input": "Tell me a story.", "max_output_tokens": 30, "seed": 2}),
]

pytestmark = pytest.mark.engine


def engine_argv() -> list[str]:
    """Return the real engine without its port; flash attention off, so that prefill and decode compute alike."""
    server = str(find_engine(None).server)
    return [server, "--host", "127.0.0.1", "-m", str(MODEL), "-t", "1", "-np", "2", "-c", "1024", "-fa", "off"]


def port() -> list[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return ["--port", str(listener.getsockname()[1])]


async def ask(serving: Serving, path: str, body: dict[str, Any], dialect: Dialect, kill_at: int = -1) -> list[Reading]:
    """Return what a stream said; the engine is killed once so many pieces of text have come."""
    splitter, readings, n_texts = Splitter(), list[Reading](), 0
    async with serving.client.stream("POST", path, json={**body, "ignore_eos": True, "stream": True}) as response:
        assert response.status_code == 200
        async for data in response.aiter_raw():
            new = [read(raw, dialect) for raw in splitter.feed(data)]
            readings += new
            n_texts += sum(bool(reading.text) for reading in new)
            if 0 <= kill_at <= n_texts:
                kill_at = -1
                assert serving.phoenix.process is not None
                serving.phoenix.process.kill()
    return [reading for reading in readings if reading.nature is not Nature.COMMENT]


@pytest.mark.parametrize(("path", "dialect", "body"), REQUESTS)
@pytest.mark.parametrize("kill_at", [1, 14])
async def test_a_killed_engine_costs_no_character(path, dialect, body, kill_at):
    async with rising(port(), port(), program=engine_argv(), config=CONFIG) as serving:
        uncut = await ask(serving, path, body, dialect)
        cut = await ask(serving, path, body, dialect, kill_at)
        assert len(serving.journal) == 0
        assert serving.journal.resumed_total == 1
    assert [reading.essence for reading in cut] == [reading.essence for reading in uncut]
    assert {reading.nature for reading in uncut} <= {Nature.PART, Nature.LAST, Nature.DONE}
    assert len({name for reading in cut for name in reading.names}) == len({n for one in uncut for n in one.names})
    assert "__verbose" not in json.dumps([reading.event.value for reading in cut if reading.event])


async def test_what_was_killed_before_its_answer_is_asked_again():
    body = {"prompt": "Once upon a time", "n_predict": 100, "temperature": 0, "ignore_eos": True}
    async with rising(port(), port(), program=engine_argv(), config=CONFIG) as serving:
        uncut = await serving.client.post("/completion", json=body)
        again = await _killed_meanwhile(serving, body)
    assert again.headers["x-resumed"] == "1"
    assert again.json()["content"] == uncut.json()["content"]


async def _killed_meanwhile(serving: Serving, body: dict[str, Any]) -> Any:
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(serving.client.post("/completion", json=body))
        while not len(serving.journal):  # noqa: ASYNC110 - the journal signals nobody
            await asyncio.sleep(0.005)
        assert serving.phoenix.process is not None
        serving.phoenix.process.kill()
    return asking.result()

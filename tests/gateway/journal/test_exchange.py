"""Requests over engines that really die: real processes, real sockets."""

import json
from dataclasses import replace
from typing import Any

import pytest

from rpc_wrapper.gateway.journal import WatchConfig
from rpc_wrapper.gateway.journal.reading import Dialect, Nature, read
from rpc_wrapper.gateway.journal.sse import Splitter
from tests.gateway.journal import engine
from tests.gateway.journal.phoenix import RESUME, rising
from tests.gateway.serve import until

PATHS = {
    Dialect.NATIVE: "/completion",
    Dialect.TEXT: "/v1/completions",
    Dialect.CHAT: "/v1/chat/completions",
    Dialect.MESSAGES: "/v1/messages",
    Dialect.RESPONSES: "/v1/responses",
}
BODIES: dict[Dialect, dict[str, Any]] = {
    Dialect.NATIVE: {"prompt": "Once upon a", "n_predict": 30},
    Dialect.TEXT: {"prompt": "Once upon a", "max_tokens": 30},
    Dialect.CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 30},
    Dialect.MESSAGES: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 30},
    Dialect.RESPONSES: {"input": "hi", "max_output_tokens": 30},
}
SHORT = {
    Dialect.NATIVE: "n_predict",
    Dialect.TEXT: "max_tokens",
    Dialect.CHAT: "max_tokens",
    Dialect.MESSAGES: "max_tokens",
    Dialect.RESPONSES: "max_output_tokens",
}
N_CUTS = 7
DIE_AT_ONCE: list[str] = ["--die-after-tokens", "0"]
DIE_SOON = ["--die-after-tokens", "6"]
DIE_LATE = ["--die-after-tokens", "14"]


def body_of(dialect: Dialect, **more: Any) -> dict[str, Any]:
    return {**BODIES[dialect], "stream": True, "temperature": 0, **more}


def text_of(dialect: Dialect, stream: bytes) -> str:
    readings = [read(raw, dialect) for raw in Splitter().feed(stream)]
    names = [reading.event.name if reading.event else "" for reading in readings]
    parts = [one for one, name in zip(readings, names, strict=True) if one.nature is Nature.PART and "done" not in name]
    return "".join(reading.text for reading in parts)


def expected(dialect: Dialect, **more: Any) -> str:
    return text_of(dialect, b"".join(engine.stream(dialect, body_of(dialect, **more), "x")))


@pytest.mark.parametrize("dialect", list(PATHS))
async def test_an_uncut_stream_is_the_engines_own(dialect):
    async with rising([]) as serving:
        response = await serving.client.post(PATHS[dialect], json=body_of(dialect))
        assert serving.phoenix.process is not None
        own = b"".join(engine.stream(dialect, body_of(dialect), str(serving.phoenix.process.pid)))
    assert response.content == own
    assert "x-resumed" not in response.headers


@pytest.mark.parametrize("dialect", list(PATHS))
@pytest.mark.parametrize("dying", [DIE_AT_ONCE, DIE_SOON, DIE_LATE], ids=["at once", "soon", "late"])
async def test_a_stream_goes_on_where_it_was_cut(dialect, dying):
    async with rising(dying, []) as serving:
        response = await serving.client.post(PATHS[dialect], json=body_of(dialect))
        assert len(serving.journal) == 0
    assert response.status_code == 200
    assert text_of(dialect, response.content) == expected(dialect)
    if dying is not DIE_AT_ONCE:
        assert response.content.count(b": resumed 1\n\n") == 1
        assert b'"resumed":1' in response.content


@pytest.mark.parametrize("dialect", list(PATHS))
async def test_a_stream_that_is_cut_behind_every_event_is_whole_all_the_same(dialect):
    body = body_of(dialect, **{SHORT[dialect]: N_CUTS})
    n_events = sum(1 for _ in engine.stream(dialect, {**body, "return_progress": True}, "x"))  # as we ask for it
    lives = [["--die-after-tokens", str(count)] for count in range(n_events)]
    async with rising(*lives, [], config=replace(RESUME, replay_tokens=1000, attempts=6)) as serving:
        response = await serving.client.post(PATHS[dialect], json=body)
        assert len(serving.journal) == 0
        n_lives = serving.phoenix.n_started
    assert text_of(dialect, response.content) == expected(dialect, **{SHORT[dialect]: N_CUTS})
    assert n_lives == n_events + 1
    assert b'"resumed":' in response.content


async def test_what_has_shown_all_its_ids_is_prefilled():
    async with rising(["--die-after-tokens", "6"], [], config=replace(RESUME, replay_tokens=2)) as serving:
        body = body_of(Dialect.NATIVE, prompt="Once upon a time", n_predict=6)
        response = await serving.client.post("/completion", json=body)
        ledger = await serving.ledger()
    assert text_of(Dialect.NATIVE, response.content) == expected(Dialect.NATIVE, prompt="Once upon a time", n_predict=6)
    (again,) = [json.loads(one["body"]) for one in ledger["requests"] if one["path"] == "/completion"]
    assert again["prompt"][:16] == engine.tokenize("Once upon a time")
    assert len(again["prompt"]) > 16
    assert again["n_predict"] == 6 - (len(again["prompt"]) - 16)


async def test_two_losses_are_counted():
    async with rising(DIE_SOON, DIE_LATE, []) as serving:
        response = await serving.client.post("/v1/chat/completions", json=body_of(Dialect.CHAT))
    assert text_of(Dialect.CHAT, response.content) == expected(Dialect.CHAT)
    assert b'"resumed":2' in response.content


async def test_comments_keep_the_line_open_during_a_pause():
    async with rising(DIE_SOON, [], start_delay_s=0.3) as serving:
        response = await serving.client.post("/v1/chat/completions", json=body_of(Dialect.CHAT))
    assert response.content.count(b": waiting for the engine\n\n") >= 2


@pytest.mark.parametrize("path", ["/completion", "/v1/chat/completions", "/v1/embeddings", "/tokenize"])
async def test_what_is_not_streamed_is_asked_again(path):
    body = {"prompt": "a", "input": "a", "content": "a", "messages": []}
    dying = DIE_SOON if "completion" in path else ["--close-mid-body"]
    async with rising(dying, []) as serving:
        response = await serving.client.post(path, json=body)
        assert len(serving.journal) == 0
    assert response.status_code == 200
    assert response.headers.get("x-resumed") == ("1" if "completion" in path else None)


async def test_an_engine_that_stops_in_good_order_ends_no_stream():
    async with rising(["--end-after", "5", "--die-after-tokens", "5"], []) as serving:
        response = await serving.client.post("/v1/chat/completions", json=body_of(Dialect.CHAT))
    assert text_of(Dialect.CHAT, response.content) == expected(Dialect.CHAT)


async def test_a_replay_that_says_otherwise_ends_with_an_error_that_says_so():
    async with rising(DIE_LATE, ["--say-otherwise"]) as serving:
        response = await serving.client.post("/v1/chat/completions", json=body_of(Dialect.CHAT))
    *_, last = Splitter().feed(response.content)
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error["code"] == "engine_lost"
    assert error["tokens_delivered"] > 5
    assert error["attempts"] == 1
    assert "differs" in error["message"]
    assert "send the request again" in error["advice"]


async def test_a_refused_prefill_is_replayed():
    config = replace(RESUME, replay_tokens=1)
    async with rising(["--die-after-tokens", "4"], ["--refuse-ids"], config=config) as serving:
        body = body_of(Dialect.NATIVE, prompt="Once upon a time")
        response = await serving.client.post("/completion", json=body)
    assert text_of(Dialect.NATIVE, response.content) == expected(Dialect.NATIVE, prompt="Once upon a time")


@pytest.mark.parametrize("stream", [True, False])
async def test_without_another_engine_it_ends_with_who_is_missing(stream):
    async with rising(DIE_LATE, config=replace(RESUME, wait_s=0.5)) as serving:
        body = body_of(Dialect.CHAT, stream=stream, max_tokens=60)
        response = await serving.client.post("/v1/chat/completions", json=body)
        assert len(serving.journal) == 0
    *_, last = response.content.strip().split(b"\n\n")
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert response.status_code == (200 if stream else 503)
    assert (error["phase"], error["backend"]) == ("load", "backend-cpu:50052")
    assert (error["tokens_delivered"] > 0) is stream


async def test_losses_without_a_new_token_come_to_an_end():
    async with rising(*[DIE_AT_ONCE] * 5) as serving:
        response = await serving.client.post("/completion", json=body_of(Dialect.NATIVE))
        assert serving.phoenix.n_started == RESUME.attempts + 1
    assert response.status_code == 200
    error = json.loads(response.content.strip().split(b"\n\n")[-1].removeprefix(b"data: "))["error"]
    assert (error["attempts"], error["tokens_delivered"]) == (RESUME.attempts + 1, 0)


@pytest.mark.parametrize("refusal", ["header", "config"])
async def test_whoever_does_not_want_it_does_not_get_it(refusal):
    config = replace(RESUME, enabled=refusal != "config")
    headers = {"x-resume": "off"} if refusal == "header" else {}
    async with rising(DIE_SOON, [], config=config) as serving:
        response = await serving.client.post("/completion", json=body_of(Dialect.NATIVE), headers=headers)
        assert serving.phoenix.n_started == 1
    assert b'"code": "engine_lost"' in response.content


@pytest.mark.parametrize("moment", ["streaming", "paused"])
async def test_a_client_that_leaves_leaves_nothing_behind(moment):
    flags = ["--stall-after-tokens", "6"] if moment == "streaming" else DIE_SOON
    async with rising(flags, ["--stall-after-tokens", "0"]) as serving:
        async with serving.client.stream("POST", "/completion", json=body_of(Dialect.NATIVE)) as response:
            wanted = b": waiting" if moment == "paused" else b"data:"
            async for data in response.aiter_raw():
                if wanted in data:
                    break
            assert len(serving.journal) == 1
        await until(lambda: len(serving.journal) == 0)
    assert serving.journal.size_bytes == 0


async def test_a_silent_engine_is_reported_and_its_stream_goes_on_at_the_next():
    watch = WatchConfig(prefill_floor_s=0.3, decode_floor_s=0.3, slack=0.0)
    async with rising(["--stall-after-tokens", "6"], [], watch=watch) as serving:
        response = await serving.client.post("/v1/chat/completions", json=body_of(Dialect.CHAT))
        (silence,) = serving.phoenix.silences
    assert silence.phase == "decode"
    assert silence.waited_s >= 0.3
    assert text_of(Dialect.CHAT, response.content) == expected(Dialect.CHAT)

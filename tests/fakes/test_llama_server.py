"""The fake engine must misbehave exactly as asked, or the tests that use it prove nothing."""

import json
import signal

import httpx
import pytest

from tests.fakes.llama_server import continuation, detokenize, tokenize
from tests.gateway.serve import engine

GREETING = {"prompt": "hello", "n_predict": 12}


def test_text_goes_on_from_prompt_and_delivered_tokens():
    prompt = tokenize("hello")
    whole = continuation(prompt, 20)
    assert continuation(prompt + whole[:7], 13) == whole[7:]
    assert len(set(whole)) > 4, "a text of one word would prove nothing"


async def test_streamed_text_equals_whole_text():
    async with engine() as fake:
        whole = (await fake.direct("POST", "/completion", json=GREETING)).json()
        streamed = await fake.direct("POST", "/completion", json=GREETING | {"stream": True})
    events = [json.loads(line[6:]) for line in streamed.text.split("\n\n") if line]
    assert "".join(event["content"] for event in events) == whole["content"] == detokenize(whole["tokens"])
    assert [event["stop"] for event in events] == [False] * 11 + [True]
    assert streamed.headers["content-type"] == "text/event-stream"


async def test_health_says_loading_first():
    async with engine("--load-s", "3600") as fake:
        health = await fake.direct("GET", "/health")
    assert health.status_code == 503
    assert health.json() == {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


async def test_needs_its_key():
    async with engine() as fake, httpx.AsyncClient(trust_env=False) as stranger:
        denied = await stranger.post(f"{fake.target.base_url}/completion", json=GREETING)
        assert denied.status_code == 401
        assert (await stranger.get(f"{fake.target.base_url}/health")).status_code == 200


async def test_dies_by_abort_after_tokens():
    async with engine("--die-after-tokens", "5") as fake:
        with pytest.raises(httpx.RemoteProtocolError):
            await fake.direct("POST", "/completion", json=GREETING | {"stream": True})
        assert await fake.process.wait() == -signal.SIGABRT


async def test_stalls_until_released():
    headers = {"authorization": "Bearer engine-key"}
    async with (
        engine("--stall-after-tokens", "5") as fake,
        httpx.AsyncClient(base_url=fake.target.base_url, headers=headers, trust_env=False) as client,
        client.stream("POST", "/completion", json=GREETING | {"stream": True}) as response,
    ):
        chunks = response.aiter_raw()
        seen = b""
        while seen.count(b"\n\n") < 5:
            seen += await anext(chunks)
        await fake.release()
        async for chunk in chunks:
            seen += chunk
    assert seen.count(b"\n\n") == 12


@pytest.mark.parametrize("stream", [True, False])
async def test_closes_mid_body(stream):
    async with engine("--close-mid-body") as fake:
        with pytest.raises(httpx.RemoteProtocolError):
            await fake.direct("POST", "/completion", json=GREETING | {"stream": stream})
        assert fake.process.returncode is None


async def test_ledger_counts_a_client_that_left():
    async with engine("--stall-after-tokens", "2") as fake:
        async with httpx.AsyncClient(base_url=fake.target.base_url, trust_env=False) as client:
            headers = {"authorization": "Bearer engine-key"}
            body = GREETING | {"stream": True}
            async with client.stream("POST", "/completion", json=body, headers=headers):
                assert (await fake.ledger(seen=1))["running"] == 1
        ledger = await fake.ledger(cancelled=1)
    assert (ledger["running"], ledger["finished"], ledger["cancelled"]) == (0, 0, 1)


async def test_ends_on_sigterm_with_0_unless_told_not_to():
    async with engine() as polite:
        polite.process.terminate()
        assert await polite.process.wait() == 0
    async with engine("--ignore-sigterm") as rude:
        rude.process.terminate()
        assert (await rude.direct("GET", "/health")).status_code == 200


async def test_flags_of_the_real_program_are_ignored():
    async with engine("--rpc", "h:1", "-ngl", "99", "--no-webui", "-np", "3", "--tensor-split", "5,4") as fake:
        assert len((await fake.direct("GET", "/slots")).json()) == 3

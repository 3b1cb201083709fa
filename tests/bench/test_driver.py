"""Real HTTP against fake servers in processes of their own."""

import asyncio
import json
import os
from itertools import pairwise
from typing import Any

import httpx
import pytest

from rpc_wrapper.bench.driver import Schedule, Target, engine_version, open_driver
from rpc_wrapper.bench.stats import Round
from rpc_wrapper.bench.workload import Kind, Workload
from rpc_wrapper.errors import ConfigError, UpstreamError
from tests.bench.serve import fake_server


async def measured(targets: list[Target], workload: Workload, schedule: Schedule) -> list[Round]:
    async with open_driver(targets) as driver:
        return [one async for one in driver.run([workload], schedule)]


async def ledger(url: str, **reached: int) -> dict[str, Any]:
    """Return what a fake saw, as soon as the counts are reached."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        return dict((await http.get(f"{url}/_ledger", params=reached)).json())


async def release(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.post(f"{url}/_release")


def completions(seen: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(request["body"]) for request in seen["requests"] if request["path"] == "/completion"]


async def test_targets_alternate_and_get_the_same_prompts():
    async with fake_server() as one, fake_server() as two:
        rounds = await measured([Target("a", one), Target("b", two)], Workload(8, 4, 2), Schedule(3, warm_up=1))
        asked = [completions(await ledger(url)) for url in (one, two)]
    assert [(r.target, r.repeat) for r in rounds] == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert all(len(r.answers) == 2 and len(a.token_at_s) == 4 for r in rounds for a in r.answers)
    prompts = [sorted(body["prompt"] for body in bodies) for bodies in asked]
    assert prompts[0] == prompts[1]
    assert len({tuple(prompt) for prompt in prompts[0]}) == 2 * 4  # every repeat, warm-up too, asks anew
    assert {len(prompt) for prompt in prompts[0]} == {8}


async def test_streams_run_at_once():
    """Nobody gets a token before all of them have asked."""
    async with fake_server("--slots", "4", "--stall-after-tokens", "0") as url, asyncio.TaskGroup() as group:
        rounds = group.create_task(measured([Target("a", url)], Workload(4, 3, 4), Schedule(1, warm_up=0)))
        await ledger(url, running=4)
        await release(url)
        [only] = await rounds
    assert len(only.answers) == 4


async def test_a_client_asks_again_when_it_was_answered():
    async with fake_server() as url:
        [only] = await measured([Target("a", url)], Workload(4, 3, 1, requests=3), Schedule(1, warm_up=0))
        seen = await ledger(url)
    ends = [answer.token_at_s[-1] for answer in only.answers]
    sent = [answer.sent_s for answer in only.answers]
    assert all(later > end for end, later in zip(ends, sent[1:], strict=False))
    assert seen["peak"] == 1


async def test_the_time_of_a_token_is_when_it_came():
    """A floor, not a performance claim: the fake waits that long before each token."""
    async with fake_server("--token-delay-ms", "20") as url:
        [only] = await measured([Target("a", url)], Workload(4, 5), Schedule(1, warm_up=0))
    [answer] = only.answers
    assert answer.ttft_s >= 0.02
    assert answer.ttlt_s >= 0.10


async def test_the_key_is_sent():
    async with fake_server("--api-key", "sesame") as url:
        with pytest.raises(UpstreamError, match="target a does not answer /tokenize"):
            await measured([Target("a", url)], Workload(4, 3), Schedule(1))
        assert len(await measured([Target("a", url, "sesame")], Workload(4, 3), Schedule(1))) == 1


@pytest.mark.parametrize("flag", ["--close-mid-body", "--die-after-tokens=5"])
async def test_a_target_that_fails_ends_the_run_with_a_sentence(flag):
    async with fake_server(flag) as url:
        with pytest.raises(UpstreamError, match=r"target a cannot be measured|ended after"):
            await measured([Target("a", url)], Workload(4, 8, 2), Schedule(1))


async def test_the_processor_time_of_a_known_process_is_counted():
    async with fake_server() as url:
        mine, unknown, gone = Target("a", url, pid=os.getpid()), Target("b", url), Target("c", url, pid=2**22 + 1)
        rounds = await measured([mine, unknown, gone], Workload(4, 3), Schedule(1, warm_up=0))
    [used_s, *others] = [one.cpu_s for one in rounds]
    assert used_s is not None
    assert used_s >= 0
    assert others == [None, None]


def asked_of(seen: dict[str, Any], path: str) -> list[dict[str, Any]]:
    return [json.loads(request["body"]) for request in seen["requests"] if request["path"] == path]


async def test_chats_report_the_lengths_that_the_target_counted():
    async with fake_server() as url:
        workload = Workload(40, 5, kind=Kind.CHAT)
        [only] = await measured([Target("a", url)], workload, Schedule(1, warm_up=0))
        bodies = asked_of(await ledger(url), "/v1/chat/completions")
    [answer] = only.answers
    last = bodies[-1]
    assert answer.prompt_tokens == len(last["messages"][0]["content"].encode())  # a fake's token is a byte
    assert abs(answer.prompt_tokens - 40) < 20
    assert len(answer.token_at_s) == 5
    assert (last["model"], last["max_tokens"]) == ("fake", 5)


async def test_embeddings_are_answers_of_one_token():
    async with fake_server() as url:
        workload = Workload(30, kind=Kind.EMBEDDINGS, requests=2)
        [only] = await measured([Target("a", url)], workload, Schedule(1, warm_up=0))
    assert [len(answer.token_at_s) for answer in only.answers] == [1, 1]
    assert all(answer.prompt_tokens > 1 for answer in only.answers)


async def test_texts_are_sent_as_the_target_tokenizes_them():
    async with fake_server() as url:
        workload = Workload(n_predict=3, texts=("one", "three"))
        [only] = await measured([Target("a", url)], workload, Schedule(1, warm_up=0))
        prompts = [body["prompt"] for body in completions(await ledger(url))]
    assert prompts == [list(b"one"), list(b"three")]
    assert [answer.prompt_tokens for answer in only.answers] == [3, 5]


@pytest.mark.parametrize("cached", [True, False])
async def test_steps_send_the_whole_text_for_every_token(cached):
    async with fake_server() as url:
        workload = Workload(n_predict=3, texts=("ab",), kind=Kind.STEPS, cache_prompt=cached)
        [only] = await measured([Target("a", url)], workload, Schedule(1, warm_up=0))
        bodies = completions(await ledger(url))
    prompts = [body["prompt"] for body in bodies]
    assert [len(prompt) for prompt in prompts] == [2, 3, 4]
    assert all(later[:-1] == before for before, later in pairwise(prompts))
    assert {(body["n_predict"], body["cache_prompt"]) for body in bodies} == {(1, cached)}
    assert len(only.answers[0].token_at_s) == 3


async def test_the_process_that_listens_is_found_and_followed():
    async with fake_server() as url:
        [only] = await measured([Target("a", url)], Workload(4, 3), Schedule(1, warm_up=0))
    assert [use.name for use in only.nodes] == ["gateway"]  # the fake is a program of no name that is known
    assert only.nodes[0].peak_rss_bytes > 2**20
    assert only.link_bytes is None


async def test_nobody_there_is_a_sentence():
    with pytest.raises(UpstreamError, match="target a does not answer"):
        await measured([Target("a", "http://127.0.0.1:1")], Workload(4, 8), Schedule(1))


async def test_a_target_without_a_version_is_unknown():
    async with fake_server() as url:
        assert await engine_version(Target("a", url)) == "unknown"


@pytest.mark.parametrize("names", [[], ["a", "a"]])
async def test_targets_need_names_of_their_own(names):
    with pytest.raises(ConfigError, match="name of its own"):
        await measured([Target(name, "http://127.0.0.1:1") for name in names], Workload(4, 8), Schedule(1))


@pytest.mark.parametrize(("repeats", "warm_up"), [(0, 1), (1, -1)])
def test_a_schedule_measures_something(repeats, warm_up):
    with pytest.raises(ConfigError, match="measure nothing"):
        Schedule(repeats, warm_up)

"""Real HTTP against a fake server."""

import asyncio

import pytest

from rpc_wrapper.cli.ask import checked_url
from rpc_wrapper.errors import ConfigError, ConnectError, UpstreamError
from rpc_wrapper.talk.client import Client, Where, chat_question, plain_question, waited_s
from tests.bench.serve import fake_server

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("question", [chat_question(MESSAGES, 5, 0), plain_question("hi", 5, 0)])
async def test_an_answer_is_said_piece_by_piece(question):
    said: list[str] = []
    async with fake_server() as url, Client(Where(url)) as client:
        text, times = await client.answer(question, said.append)
    assert len(said) == 5
    assert "".join(said) == text
    assert times.n_tokens == 5
    assert 0 <= times.ttft_s <= times.total_s


async def test_the_key_is_sent_and_a_refusal_is_a_sentence():
    async with fake_server("--api-key", "sesame") as url:
        async with Client(Where(url, "sesame")) as client:
            assert (await client.answer(plain_question("hi", 2, 0), lambda _: None))[1].n_tokens == 2
        async with Client(Where(url)) as client:
            with pytest.raises(UpstreamError, match="refused with 401: Invalid API Key"):
                await client.answer(plain_question("hi", 2, 0), lambda _: None)


@pytest.mark.parametrize("flag", ["--close-mid-body", "--die-after-tokens=2"])
async def test_an_answer_that_breaks_off_is_an_error(flag):
    async with fake_server(flag) as url, Client(Where(url)) as client:
        with pytest.raises(UpstreamError, match=r"was lost|broke off after 2 tokens"):
            await client.answer(plain_question("hi", 8, 0), lambda _: None)


async def test_nobody_there_says_what_to_do():
    async with Client(Where("http://127.0.0.1:1")) as client:
        with pytest.raises(ConnectError, match="start one, or name another with --url"):
            await client.split_answer(plain_question("hi", 8, 0), lambda _: None)


async def test_a_server_without_a_cluster_cannot_split_times():
    async with fake_server() as url, Client(Where(url)) as client:
        with pytest.raises(UpstreamError, match="refused with 404"):
            await client.split_answer(plain_question("hi", 8, 0), lambda _: None)


async def test_what_is_no_gateway_is_said_to_be_none():
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(page, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Client(Where(url)) as client:
            with pytest.raises(UpstreamError, match=f"what answers at {url} is no gateway"):
                await client.cluster()


@pytest.mark.parametrize("url", ["localhost:8080", "http://", "http://host:port"])
def test_an_address_that_is_none_is_a_sentence(url):
    with pytest.raises(ConfigError, match="is no address of a gateway"):
        checked_url(url)


def test_waiting_is_read_from_the_links():
    assert waited_s({"links": [{"endpoint": "a:1", "stage_waited_s": 2}]}) == {"a:1": 2.0}
    assert waited_s({}) == {}

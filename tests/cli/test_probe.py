"""The command as a user runs it, against fakes and a made-up agent."""

import asyncio
import json

import pytest
import typer
from typer.testing import CliRunner

from rpc_wrapper.cli.probe import probe
from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.rpc.commands import ProtocolVersion
from tests.fakes.rpc_server import Options, running

NO_AGENT = "+agent=1"  # nobody listens on port 1; the default would be a neighbour's port

app = typer.Typer()
app.command()(probe)


async def invoke(*args: str) -> tuple[int, str]:
    """Run the command in a thread, so that its own event loop and ours do not meet."""
    result = await asyncio.to_thread(CliRunner().invoke, app, list(args))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


async def agent_answering(body: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = b"200 OK" if head.startswith(b"GET /status ") else b"404 Not Found"
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body))
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def test_ok_and_busy_are_a_success():
    async with running() as (free, _), running(Options(silent=True)) as (silent, _):
        code, output = await invoke(f"{free}{NO_AGENT}", f"{silent}{NO_AGENT}", "--timeout", "0.3")
    assert code == 0
    assert f"{silent}: it is connected but silent in HELLO for 0.3 s" in output


@pytest.mark.parametrize(
    ("options", "state"),
    [(Options(http=True), "not an RPC server"), (Options(version=ProtocolVersion(6, 0, 0)), "wrong version")],
)
async def test_anything_else_is_a_failure_even_beside_a_free_one(options, state):
    async with running() as (free, _), running(options) as (bad, _):
        code, output = await invoke(f"{free}{NO_AGENT}", f"{bad}{NO_AGENT}", "--json", "--timeout", "0.5")
    assert code == 1
    assert [line["state"] for line in json.loads(output)] == ["ok", state]


async def test_the_agent_adds_its_budget():
    status = {"state": "ready", "pid": 42, "budget_bytes": 512 * MIB, "uptime_s": 1.5}
    async with running() as (free, _), await agent_answering(json.dumps(status).encode()) as agent:
        code, output = await invoke(f"{free}+agent={port_of(agent)}", "--json")
    assert code == 0
    assert json.loads(output)[0]["agent"] == status


@pytest.mark.parametrize("body", [b"not json", b"[]", b'{"pid": 1}', b"\xff"])
async def test_a_neighbour_that_is_no_agent_is_left_out(body):
    async with running() as (free, _), await agent_answering(body) as neighbour:
        code, output = await invoke(f"{free}+agent={port_of(neighbour)}", "--json")
    assert code == 0
    assert json.loads(output)[0]["agent"] is None


async def test_a_silent_neighbour_is_given_up():
    async with running() as (free, _), running(Options(silent=True)) as (silent, _):
        code, output = await invoke(f"{free}+agent={silent.port}", "--json")
    assert code == 0
    assert json.loads(output)[0]["agent"] is None


async def test_the_last_port_has_no_port_after_it_for_an_agent():
    code, output = await invoke(str(Endpoint("127.0.0.1", 65535)), "--json")
    assert code == 1
    assert json.loads(output)[0]["agent"] is None


@pytest.mark.parametrize("arguments", [["nonsense"], ["h:1", "h:1"], ["h:70000"]])
async def test_a_malformed_endpoint_is_one_sentence(arguments):
    with pytest.raises(ConfigError, match="endpoint"):
        await invoke(*arguments)

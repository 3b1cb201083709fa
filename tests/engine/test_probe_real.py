"""The probe and the real ggml-rpc-server: every answer it can give, and that asking never harms it."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.rpc.client import connect, probe
from rpc_wrapper.rpc.commands import PINNED, REQUEST_HEADER, Command
from rpc_wrapper.rpc.messages import HelloRequest
from rpc_wrapper.rpc.result import ProbeState

pytestmark = pytest.mark.engine

LONG_S = 30.0
SHORT_S = 0.3


def program(name: str) -> Path:
    spec = find_spec("llama_cpp")
    path = Path(spec.origin).parent / "bin" / name if spec and spec.origin else Path(name)
    assert path.exists(), f"the engine is not installed: {path} is missing"
    return path


@contextlib.asynccontextmanager
async def child(name: str, *args: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Endpoint]]:
    """Run an engine program on a free port and wait until the port takes connections."""
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        program(name),
        *("--host", "127.0.0.1", "--port", str(port), *args),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process, Endpoint("127.0.0.1", port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture
async def worker() -> AsyncIterator[tuple[asyncio.subprocess.Process, Endpoint]]:
    """Yield a real worker that has answered once."""
    async with child("ggml-rpc-server", "--threads", "1") as (process, endpoint):
        await until(endpoint, ProbeState.OK)
        yield process, endpoint


async def until(endpoint: Endpoint, state: ProbeState) -> None:
    """Probe until the answer is ``state``; fail after a long while."""
    async with asyncio.timeout(LONG_S):
        while (await probe(endpoint, timeout_s=LONG_S)).state is not state:  # noqa: ASYNC110 (another process: no event)
            await asyncio.sleep(0.05)


async def test_a_free_worker_is_ok(worker):
    _, endpoint = worker
    result = await probe(endpoint, timeout_s=LONG_S)
    assert result.state is ProbeState.OK, result.detail
    assert result.version == PINNED
    assert len(result.devices) >= 1
    assert 0 < result.devices[0].free_bytes <= result.devices[0].total_bytes


@pytest.mark.parametrize("probes", [1, 2])
async def test_probing_a_busy_worker_neither_disturbs_nor_kills_it(worker, probes):
    """An orderly close instead of a reset ends the worker with SIGPIPE here, when the holder leaves."""
    process, endpoint = worker
    async with await connect(endpoint, timeout_s=LONG_S) as holder:
        await holder.hello()
        for _ in range(probes):
            assert (await probe(endpoint, timeout_s=SHORT_S)).state is ProbeState.BUSY
        assert await holder.device_count() >= 1
    assert (await probe(endpoint, timeout_s=LONG_S)).state is ProbeState.OK
    assert process.returncode is None


async def test_a_worker_is_down_after_kill(worker):
    process, endpoint = worker
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    assert (await probe(endpoint, timeout_s=LONG_S)).state is ProbeState.DOWN


async def test_a_frozen_worker_looks_busy_and_recovers(worker):
    process, endpoint = worker
    process.send_signal(signal.SIGSTOP)
    result = await probe(endpoint, timeout_s=SHORT_S)
    process.send_signal(signal.SIGCONT)
    assert result.state is ProbeState.BUSY
    assert "or is frozen" in result.detail
    assert (await probe(endpoint, timeout_s=LONG_S)).state is ProbeState.OK
    assert process.returncode is None


async def test_the_pinned_worker_hangs_up_on_an_empty_hello(worker):
    """What the probe makes of old workers rests on new ones refusing their HELLO."""
    _, endpoint = worker
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    writer.write(REQUEST_HEADER.pack(Command.HELLO, 0))
    assert await asyncio.wait_for(reader.read(), LONG_S) == b""
    writer.close()
    await writer.wait_closed()


async def test_the_pinned_worker_never_hangs_up_on_ours(worker):
    _, endpoint = worker
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    writer.write(HelloRequest().frame())
    assert (await asyncio.wait_for(reader.readexactly(36), LONG_S))[8:11] == bytes(PINNED)
    writer.close()
    await writer.wait_closed()


async def test_llama_servers_own_port_is_not_an_rpc_server():
    """It keeps silent until a header ends, so it must not pass for a busy worker."""
    async with child("llama-server", "--no-webui") as (_, endpoint):
        async with asyncio.timeout(LONG_S):
            while (result := await probe(endpoint, timeout_s=SHORT_S)).state is ProbeState.DOWN:  # noqa: ASYNC110 (same)
                await asyncio.sleep(0.05)
    assert result.state is ProbeState.NOT_RPC, result.detail
    assert "web server" in result.detail

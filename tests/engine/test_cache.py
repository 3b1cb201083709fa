"""The tensor cache of a real worker: what it writes, and what is left of it when everything is killed."""

import asyncio
import contextlib
import os
import random
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.link.cache import MIN_BYTES, NOTE
from rpc_wrapper.link.fnv import fnv1a
from rpc_wrapper.rpc.commands import Command
from rpc_wrapper.rpc.messages import AllocBufferReply, AllocBufferRequest
from tests.engine.cluster import Cluster, command, eventually
from tests.engine.test_links import free_pair
from tests.link.wire import client

pytestmark = pytest.mark.engine

HOST = "127.0.0.1"
SIZE = MIN_BYTES + 4096


@pytest.fixture
def port() -> int:
    """Return a free port whose successor is free as well, for the agent."""
    return free_pair()


@contextmanager
def backend(folder: Path, port: int) -> Iterator[Cluster]:
    """Run a backend with its cache in the folder, until its worker is up."""
    settings = {"APP_PORT": str(port), "APP_MEM": "256", "APP_THREADS": "1", "APP_CACHE_DIR": str(folder / "tensors")}
    with command(folder, port, "run", **settings) as running:
        eventually(lambda: running.process.poll() or "answers HELLO" in running.text(), "the worker's answer")
        assert running.process.poll() is None, running.text()
        yield running


def tensor(buffer: int, data: int, items: int) -> bytes:
    """Return a one-dimensional f32 tensor as the wire has it (struct rpc_tensor, ggml-rpc.cpp)."""
    head = struct.pack("<QIQ4I4I", 1, 0, buffer, items, 1, 1, 1, 4, *([4 * items] * 3))
    return head + bytes(4 + 64 + 4 + 80 + 8 + 8) + struct.pack("<Q", data) + bytes(64 + 4)


async def push(port: int, data: bytes) -> None:
    """Have the worker keep a tensor, as llama-server does that finds it is not cached yet."""
    async with client(Endpoint(HOST, port)) as engine:
        request = AllocBufferRequest(0, len(data)).pack()
        pointer = AllocBufferReply.unpack(await engine.ask(Command.ALLOC_BUFFER, request)).remote_ptr
        (base,) = struct.unpack("<Q", await engine.ask(Command.BUFFER_GET_BASE, struct.pack("<Q", pointer)))
        engine.tell(Command.SET_TENSOR, tensor(pointer, base, len(data) // 4) + struct.pack("<BQ", 1, 0) + data)
        await engine.ask(Command.BUFFER_GET_BASE, struct.pack("<Q", pointer))  # answered after the tensor was kept


class Killed(Exception):
    """Ends a context whose process is to be asked for nothing any more, an exit code included."""


def kill_all(running: Cluster) -> None:
    """Kill the supervisor and its worker without a word, as a container's end or a power cut does; raise Killed."""
    family = [psutil.Process(running.process.pid), *psutil.Process(running.process.pid).children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGKILL)
    running.process.wait()
    raise Killed


def test_a_tensor_is_named_by_our_hash_and_outlives_an_orderly_restart(tmp_path, port):
    data = random.Random(1).randbytes(SIZE)
    kept = tmp_path / "tensors" / str(port) / "rpc" / f"{fnv1a(data):016x}"
    with backend(tmp_path, port):
        asyncio.run(push(port, data))
        assert kept.read_bytes() == data
    with backend(tmp_path, port) as again:
        assert kept.exists()
        assert "tensor cache: removed" not in again.text()


def test_a_file_cut_short_by_the_kill_of_everything_is_removed_at_the_next_start(tmp_path, port):
    older, half = random.Random(1).randbytes(SIZE), random.Random(2).randbytes(SIZE)
    folder = tmp_path / "tensors" / str(port) / "rpc"
    with contextlib.suppress(Killed), backend(tmp_path, port) as running:
        asyncio.run(push(port, older))
        asyncio.run(push(port, half))
        with (folder / f"{fnv1a(half):016x}").open("r+b") as file:
            file.truncate(SIZE - 1000)  # larger than what is too small to be a tensor: only its hash tells
        kill_all(running)
    with backend(tmp_path, port) as again:
        assert "tensor cache: removed 1 damaged, 0 old files" in again.text()
        assert [path.name for path in folder.iterdir()] == [f"{fnv1a(older):016x}"]


def test_after_a_power_cut_every_file_of_the_last_run_is_checked(tmp_path, port):
    older, newer = random.Random(1).randbytes(SIZE), random.Random(2).randbytes(SIZE)
    folder = tmp_path / "tensors" / str(port)
    with contextlib.suppress(Killed), backend(tmp_path, port) as running:
        asyncio.run(push(port, older))
        asyncio.run(push(port, newer))
        (folder / "rpc" / f"{fnv1a(older):016x}").write_bytes(bytes(SIZE))  # blocks that never reached the disk
        os.utime(folder / "rpc" / f"{fnv1a(older):016x}", (time.time() - 1,) * 2)
        (folder / NOTE).write_text("an earlier boot")
        kill_all(running)
    with backend(tmp_path, port) as again:
        assert "tensor cache: removed 1 damaged, 0 old files" in again.text()
        assert [path.name for path in (folder / "rpc").iterdir()] == [f"{fnv1a(newer):016x}"]


def test_a_worker_that_cached_nothing_leaves_no_folder(tmp_path, port):
    with backend(tmp_path, port):
        assert (tmp_path / "tensors" / str(port)).is_dir()
    assert os.listdir(tmp_path / "tensors") == []

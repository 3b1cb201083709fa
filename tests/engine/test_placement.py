"""Every strategy and split over real workers: the engine does what was planned, and the text stays the same."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from rpc_wrapper.cli.server import server_service
from rpc_wrapper.config import Settings
from rpc_wrapper.engine import args, binaries, flags
from tests.engine.cluster import DEMO, command, free_port
from tests.engine.prompts import PROMPTS

pytestmark = pytest.mark.engine

READY_S = 60.0
N_PREDICT = 12
N_BLOCKS = 8
UNREPACKED = ("--no-repack",)  # workers do not repack weights, so the host must not either for the same text


@contextmanager
def worker() -> Iterator[str]:
    """Run one worker of the engine; yield its endpoint."""
    engine, port = binaries.find_engine(None), free_port()
    options = args.WorkerOptions(port=port, threads=1)
    argv = args.worker_argv(engine.worker, options, flags.accepted_flags(engine.worker))
    # SIGPIPE stays ignored, as the supervisor has it: a worker whose client left in mid-answer would die of it
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, restore_signals=False)
    try:
        yield f"127.0.0.1:{port}"
        assert process.poll() is None, "the worker died"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def workers() -> Iterator[list[str]]:
    """Run three workers."""
    with ExitStack() as stack:
        yield [stack.enter_context(worker()) for _ in range(3)]


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep measured speeds apart from the user's, and for the whole run."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp()))


@asynccontextmanager
async def served(endpoints: list[str], **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run the server's service, all but its port; yield a client of its gateway as soon as tokens come out."""
    values = {
        "mode": "server",
        "model": DEMO,
        "rpc_backends": ",".join(endpoints),
        "threads": 1,
        "parallel": 2,
        "wait_s": 20,
    }
    service = server_service(Settings(**{**values, "ctx_size": 1024, **settings}), {}, UNREPACKED)
    app = service.app
    async with asyncio.TaskGroup() as tasks, app.router.lifespan_context(app):
        tasks.create_task(service.runner.run())
        try:
            await service.runner.ensure_ready(READY_S)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=READY_S) as client:
                yield client
        finally:
            service.runner.stop()


async def texts(client: httpx.AsyncClient) -> list[str]:
    """Return the greedy continuations of ten prompts."""
    found = []
    for prompt in PROMPTS[:10]:
        body = {"prompt": prompt, "n_predict": N_PREDICT, "temperature": 0}
        answer = (await client.post("/completion", json=body)).raise_for_status().json()
        found.append(answer["content"])
    return found


_UNSPLIT: list[str] = []


async def unsplit() -> list[str]:
    """Return what the engine says without any backend; asked once."""
    if not _UNSPLIT:
        async with served(["127.0.0.1:9"], strategy="local") as client:
            _UNSPLIT.extend(await texts(client))
        assert len(set(_UNSPLIT)) > 5, _UNSPLIT  # the model says something
    return _UNSPLIT


async def prove(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Check that every device holds what was planned and that the text is the unsplit one; return the assignments."""
    cluster = (await client.get("/cluster")).raise_for_status().json()
    assert cluster["state"] == "ready"
    parts = cluster["plan"]["assignments"]
    assert [block for part in parts for block in range(part["first_block"], part["last_block"] + 1)] == [*range(8)]
    assert [part["has_output"] for part in parts] == [False] * (len(parts) - 1) + [True]
    for part in parts:
        if part["endpoint"] is not None:
            held = cluster["loaded"][part["endpoint"]]
            assert held["model_bytes"] == pytest.approx(part["weights_bytes"], abs=64 * 1024)
            assert held["kv_bytes"] == pytest.approx(part["kv_bytes"], abs=64 * 1024)
    assert await texts(client) == await unsplit()
    return list(parts)


BOUNDARIES = {2: "0-2,3-7", 3: "0-1,2-5,6-7"}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("strategy", ["uniform", "memory", "compute", "mixed", "custom", "single_device"])
async def test_a_strategy_is_carried_out(workers: list[str], strategy: str, count: int) -> None:
    boundaries = BOUNDARIES[count] if strategy == "custom" else None
    async with served(workers[:count], strategy=strategy, boundaries=boundaries) as client:
        parts = await prove(client)
    sizes = [part["last_block"] - part["first_block"] + 1 for part in parts]
    if strategy == "single_device":
        assert sizes == [N_BLOCKS]
    elif strategy == "custom":
        assert sizes == {2: [3, 5], 3: [2, 4, 2]}[count]
    else:
        assert len(sizes) == count
        assert max(sizes) - min(sizes) <= (1 if strategy == "uniform" else N_BLOCKS)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("split", [1, N_BLOCKS // 2, N_BLOCKS - 1])
async def test_the_server_keeps_the_first_blocks(workers: list[str], split: int, count: int) -> None:
    async with served(workers[:count], split_layer=split) as client:
        host, *rest = await prove(client)
    assert (host["device"], host["first_block"], host["last_block"]) == ("CPU", 0, split - 1)
    assert all(part["endpoint"] in workers[:count] for part in rest)


async def test_the_server_itself_takes_part_when_it_is_listed(workers: list[str]) -> None:
    async with served([*workers[:2], "local"], strategy="uniform") as client:
        parts = await prove(client)
    assert [part["device"] for part in parts] == ["CPU", "RPC0", "RPC1"]


async def test_the_server_alone_is_a_list_too(workers: list[str]) -> None:
    async with served(["local"]) as client:
        assert [part["device"] for part in await prove(client)] == ["CPU"]


async def test_in_tensor_mode_every_device_holds_its_slice(workers: list[str]) -> None:
    async with served(workers[:2], split_mode="tensor", flash_attn="on") as client:
        body = {"prompt": [100] * 512, "n_predict": 1}  # some buffers are allocated when they are first needed
        (await client.post("/completion", json=body)).raise_for_status()
        cluster = (await client.get("/cluster")).raise_for_status().json()
    found = {link["endpoint"]: link["allocated_bytes"]["0"] for link in cluster["links"]}
    for part in cluster["plan"]["assignments"]:
        planned = sum(part[f"{kind}_bytes"] for kind in ("weights", "kv", "compute"))
        assert found[part["endpoint"]] == pytest.approx(planned, rel=0.05)


def test_a_model_beyond_every_budget_is_refused_in_mib(tmp_path: Path) -> None:
    port = free_port()
    words = ["demo", "--backends", "1", "--port", str(port), "--mem", "300", "--ctx-size", "65536", "--parallel", "8"]
    with command(tmp_path, port, *words, "--model", str(DEMO)) as running:
        assert running.process.wait(60) == 1
        assert "MiB short" in running.text()
        assert "Way out: use --parallel" in running.text()
        assert "Traceback" not in running.text()

"""Speeds are measured once per device, engine and quantisation, and remembered; a program of ours plays llama-bench."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rpc_wrapper.devices import MIB, Device, Endpoint
from rpc_wrapper.engine.benchmark import Stand
from rpc_wrapper.engine.binaries import Engine
from rpc_wrapper.errors import EngineError
from rpc_wrapper.gateway.speeds import SpeedFile, Subject, lengths, measure_speeds
from rpc_wrapper.planner import read_profile
from tests.planner.models import Shape, write_model
from tests.planner.profiles import even_profile

# A millisecond per token, and one more per block: what the model's file is called says how many blocks it has.
BENCH = f"""#!{sys.executable}
import pathlib, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open({{calls!r}}, "a") as calls:
    print(words["--rpc"], file=calls)
if {{fails}}:
    sys.exit("Failed to connect")
blocks = int(pathlib.Path(words["-m"]).stem)
print('"samples_ns": [', 16 * 1_000_000 * (1 + blocks), "]")
"""


def stand(port: int) -> Stand:
    endpoint = Endpoint("127.0.0.1", port)
    return Stand(Device(f"RPC{port}", MIB, endpoint, total_bytes=MIB), endpoint)


def subject(folder: Path, *, fails: bool = False, version: str = "1") -> Subject:
    """Return a model of four blocks and an engine whose llama-bench counts its calls."""
    bench = folder / "llama-bench"
    bench.write_text(BENCH.format(calls=str(folder / "calls"), fails=fails))
    bench.chmod(0o755)
    model = write_model(folder / "model.gguf", Shape())
    engine = Engine(folder / "llama-server", folder / "ggml-rpc-server", version, None)
    return Subject(engine, model, read_profile(model), dict(os.environ), threads=1)


def calls(folder: Path) -> list[str]:
    file = folder / "calls"
    return file.read_text().split() if file.exists() else []


async def test_the_difference_of_two_lengths_is_the_time_of_blocks(tmp_path: Path) -> None:
    it = subject(tmp_path)
    (device,) = await measure_speeds(it, [stand(1)], SpeedFile(tmp_path / "cache" / "speeds.json"))
    assert device.name == "RPC1"
    assert device.speed == pytest.approx(it.profile.blocks[0].active_bytes / 0.001)


async def test_it_is_measured_once_until_asked_again_or_the_engine_changes(tmp_path: Path) -> None:
    book = SpeedFile(tmp_path / "speeds.json")
    first = await measure_speeds(subject(tmp_path), [stand(1)], book)
    assert await measure_speeds(subject(tmp_path), [stand(1), stand(2)], book) == (first[0], stand_speed(first[0], 2))
    assert calls(tmp_path) == ["127.0.0.1:1"] * 2 + ["127.0.0.1:2"] * 2
    await measure_speeds(subject(tmp_path), [stand(1)], book, afresh=True)
    await measure_speeds(subject(tmp_path, version="2"), [stand(1)], book)
    assert calls(tmp_path)[4:] == ["127.0.0.1:1"] * 4


def stand_speed(like: Device, port: int) -> Device:
    """Return another stand's device with the same speed."""
    other = stand(port).device
    return Device(other.name, MIB, other.endpoint, total_bytes=MIB, speed=like.speed)


async def test_a_device_that_cannot_be_measured_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="Failed to connect"):
        await measure_speeds(subject(tmp_path, fails=True), [stand(1)], SpeedFile(tmp_path / "speeds.json"))
    assert not (tmp_path / "speeds.json").exists()


async def test_a_cancelled_measurement_leaves_no_child(tmp_path: Path) -> None:
    it, pid_file = subject(tmp_path), tmp_path / "pid"
    (tmp_path / "llama-bench").write_text(
        f"#!/bin/sh\necho $$ > {pid_file}.part; mv {pid_file}.part {pid_file}\nsleep 60\n"
    )
    working = asyncio.ensure_future(measure_speeds(it, [stand(1)], SpeedFile(tmp_path / "speeds.json")))
    await until(pid_file.exists)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    pid = int(pid_file.read_text())
    await until(lambda: not _runs(pid))


async def until(claim: Callable[[], bool]) -> None:
    """Wait for something in another process; raise TimeoutError."""
    async with asyncio.timeout(10):
        while not claim():  # noqa: ASYNC110  (another process has no event to wait for)
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("text", ["", "[]", '{"a": "fast"}', "{", '{"a": null}'])
def test_a_damaged_file_is_an_empty_one(tmp_path: Path, text: str) -> None:
    file = tmp_path / "speeds.json"
    file.write_text(text)
    assert SpeedFile(file).read() == {}
    SpeedFile(file).add({"b": 2.0})
    assert SpeedFile(file).read() == {"b": 2.0}


def test_where_nothing_can_be_written_it_is_told_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    SpeedFile(tmp_path / "file" / "speeds.json").add({"a": 1.0})
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize(("block_mib", "n_layer", "wanted"), [(1, 4, 4), (100, 32, 4), (1000, 80, 3), (1, 1, 1)])
def test_small_blocks_need_more_of_them(block_mib: int, n_layer: int, wanted: int) -> None:
    assert lengths(even_profile(n_layer, block_bytes=block_mib * MIB)) == (1, wanted)

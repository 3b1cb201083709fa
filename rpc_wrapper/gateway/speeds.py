"""How fast each device decodes this kind of model: measured once with its own blocks, then remembered on disk.

A device's speed is the bytes of weights it gets through in a second. Two models cut from the one to be served, of few
and of more blocks, are timed on the device alone; the difference is the time of blocks, without the output, the round
trip and everything else that is the same in both.
"""

import asyncio
import contextlib
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rpc_wrapper.devices import MIB, Device, Endpoint
from rpc_wrapper.engine.args import worker_environ
from rpc_wrapper.engine.benchmark import Stand, bench_argv, token_s
from rpc_wrapper.engine.binaries import Engine
from rpc_wrapper.errors import EngineError, RPCWrapperError
from rpc_wrapper.gateway.start import ClusterConfig
from rpc_wrapper.planner import ModelProfile
from rpc_wrapper.planner.truncate import truncate_model
from rpc_wrapper.supervisor import Launch
from rpc_wrapper.supervisor.process import spawn

LEAST_BYTES = 256 * MIB  # weights that the longer model has more, as far as the model has them
LEAST_BLOCKS = 2
TIMEOUT_S = 600.0  # a few blocks of a large model are first sent to the backend

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a model on an engine, with so many threads where the host itself computes."""

    engine: Engine
    model: Path
    profile: ModelProfile
    environ: Mapping[str, str]
    threads: int


class SpeedFile:
    """Measured speeds in bytes per second, by device, engine and quantisation; an unreadable file is an empty one."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()

    def read(self) -> dict[str, float]:
        """Return everything that is remembered."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(key): float(value) for key, value in found.items() if 0 < float(value) < float("inf")}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def add(self, speeds: Mapping[str, float]) -> None:
        """Remember more; where nothing can be written, the next start measures again."""
        text = json.dumps(self.read() | dict(speeds), indent=2, sort_keys=True)
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text, encoding="utf-8")
            part.replace(self._path)
        except OSError as error:
            log.warning("measured speeds cannot be kept in %s: %s", self._path, error.strerror or error)
            with contextlib.suppress(OSError):
                part.unlink()


async def measure_speeds(
    subject: Subject, stands: Sequence[Stand], book: SpeedFile, *, afresh: bool = False
) -> tuple[Device, ...]:
    """Return the devices with their speeds, measuring one after the other those that are not remembered.

    Raises EngineError when one cannot be measured. Sending the blocks takes longer than timing them.
    """
    keys = [_key(subject, stand.device) for stand in stands]
    known = {} if afresh else book.read()
    missing = [(key, stand) for key, stand in zip(keys, stands, strict=True) if key not in known]
    if missing:
        found = await _measure(subject, missing)
        known |= found
        book.add(found)
    return tuple(replace(stand.device, speed=known[key]) for key, stand in zip(keys, stands, strict=True))


def _key(subject: Subject, device: Device) -> str:
    """Name what a speed belongs to; another machine at the same address most likely has another memory."""
    where = f"{device.label} {device.kind} {device.total_bytes // MIB} MiB"
    return f"{where}, {subject.engine.version}, {subject.profile.architecture} {subject.profile.quantisation}"


async def _measure(subject: Subject, stands: Sequence[tuple[str, Stand]]) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="rpc-wrapper-speed-") as folder:
        cuts = await asyncio.to_thread(_cut, subject, Path(folder))
        return {key: await _speed(subject, stand, cuts) for key, stand in stands}


def _cut(subject: Subject, folder: Path) -> list[tuple[Path, int]]:
    """Return a shorter and a longer model cut from the subject's, each with the bytes a token reads of its blocks."""
    cuts = []
    for n_layer in lengths(subject.profile):
        target = folder / f"{n_layer}.gguf"
        truncate_model(subject.model, target, n_layer, overwrite=True)
        cuts.append((target, sum(block.active_bytes for block in subject.profile.blocks[:n_layer])))
    return cuts


async def _speed(subject: Subject, stand: Stand, cuts: Sequence[tuple[Path, int]]) -> float:
    (short, few_bytes), (long, many_bytes) = cuts
    few_s, many_s = await _token_s(subject, stand, short), await _token_s(subject, stand, long)
    # blocks too small to be told from the noise: the whole time is at least honest about the device's overhead
    is_clear = many_s > few_s and many_bytes > few_bytes
    speed = (many_bytes - few_bytes) / (many_s - few_s) if is_clear else many_bytes / many_s
    log.info("%s decodes %.0f MiB of weights per second", stand.device.label, speed / MIB)
    return speed


async def _token_s(subject: Subject, stand: Stand, model: Path) -> float:
    """Return the seconds per token of one model on one device; the child ends with us."""
    argv = bench_argv(subject.engine.program("llama-bench"), model, stand, subject.threads)
    child = await spawn(Launch(argv, subject.environ))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            returncode = await child.wait()
    except TimeoutError:
        raise EngineError(f"{stand.device.label} timed no token within {TIMEOUT_S:g} s: is it busy?") from None
    finally:
        child.kill_group()
    return token_s(list(child.lines), returncode)


def lengths(profile: ModelProfile) -> tuple[int, int]:
    """Return how many blocks the shorter and the longer model have."""
    wanted = max(LEAST_BLOCKS, -(-LEAST_BYTES // max(profile.blocks[0].active_bytes, 1)))
    return 1, min(profile.n_layer, 1 + wanted)


async def timed(
    config: ClusterConfig, devices: Sequence[Device], addresses: Mapping[Endpoint, Endpoint]
) -> tuple[Device, ...]:
    """Return the devices of a start with their speeds; when one cannot be measured, all count as equally fast."""
    subject = Subject(
        engine=config.engine,
        model=config.server.model,
        profile=config.profile,
        environ=worker_environ(config.environ),
        threads=config.server.threads or 1,
    )
    stands = [Stand(device, addresses[device.endpoint] if device.endpoint else None) for device in devices]
    try:
        return await measure_speeds(subject, stands, SpeedFile(config.speeds_file))
    except RPCWrapperError as error:
        log.warning("all devices count as equally fast, because one could not be measured: %s", error)
        return tuple(devices)

"""Time a model's blocks on backends that run, for ``rpc-wrapper inspect --benchmark``."""

import ssl
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

from rich.table import Table

from rpc_wrapper.devices import MIB, Device, parse_endpoints
from rpc_wrapper.engine import binaries, machine
from rpc_wrapper.engine.args import worker_environ
from rpc_wrapper.engine.benchmark import Stand
from rpc_wrapper.gateway.backends import survey_usable
from rpc_wrapper.gateway.links import LinkConfig, Links
from rpc_wrapper.gateway.speeds import SpeedFile, Subject, measure_speeds
from rpc_wrapper.gateway.start import SPEEDS_FILE
from rpc_wrapper.planner import ModelProfile


async def measure(
    model: Path,
    profile: ModelProfile,
    endpoints: str,
    environ: Mapping[str, str],
    tls: ssl.SSLContext | None = None,
) -> tuple[Device, ...]:
    """Return the devices of all endpoints with their speeds, measured now; raise ConfigError or EngineError."""
    subject = Subject(binaries.find_engine(), model, profile, worker_environ(environ), machine.default_threads())
    async with aclosing(Links(LinkConfig(tls=tls), lambda _: None)) as links:
        reports = await survey_usable(parse_endpoints(endpoints), tls)
        addresses = await links.open(reports)
        stands: list[Stand] = []
        for report in reports:
            stands += [Stand(device, addresses[report.endpoint]) for device in report.devices(len(stands))]
        return await measure_speeds(subject, stands, SpeedFile(SPEEDS_FILE), afresh=True)


def to_json(devices: tuple[Device, ...], profile: ModelProfile) -> list[dict[str, object]]:
    """Return a row per device: weights per second, and what the mean block of the model costs there."""
    mean_bytes = sum(block.active_bytes for block in profile.blocks) / profile.n_layer
    return [
        {"endpoint": each.label, "bytes_per_s": round(each.speed), "block_ms": round(1000 * mean_bytes / each.speed, 4)}
        for each in devices
    ]


def speed_table(devices: tuple[Device, ...], profile: ModelProfile) -> Table:
    """Return the same for people."""
    table = Table("backend", "weights MiB/s", "ms per block", box=None, pad_edge=False, header_style="bold")
    for device, row in zip(devices, to_json(devices, profile), strict=True):
        table.add_row(device.label, f"{device.speed / MIB:.0f}", f"{row['block_ms']}")
    return table

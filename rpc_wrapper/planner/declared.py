"""Devices as a user writes them on a command line: ``NAME=MEM[@KIND][*SPEED]``."""

import re
from collections.abc import Sequence

from rpc_wrapper.devices import Device, Endpoint
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.planner.plan import HOST_DEVICE

DEFAULT_PORT = 50052
LOCAL = "local"
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?) ?(?P<unit>[KMGT]?)(?:i?B)?", re.IGNORECASE)
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_BACKEND = re.compile(
    r"(?P<host>\[[^\]]+\]|[^:=@*\s]+)(?::(?P<port>\d+))?=(?P<memory>[^@*]+)(?:@(?P<kind>[a-z]+))?(?:\*(?P<speed>[\d.]+))?"
)


def parse_size(text: str) -> int:
    """Parse ``4GiB``, ``4GB``, ``512M`` or bytes; every unit counts in 1024s. Raise ConfigError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"size {text!r} is malformed: write a number and a unit, for example 4GiB or 512MB")
    return int(float(match["number"]) * _FACTORS[match["unit"].upper()])


def parse_devices(declared: Sequence[str]) -> tuple[Device, ...]:
    """Parse declared backends into devices, numbered as the engine would; ``local`` is the server itself."""
    devices: list[Device] = []
    n_remote = 0
    n_local: dict[str, int] = {}
    for text in declared:
        match = _BACKEND.fullmatch(text.strip())
        if match is None:
            raise ConfigError(
                f"backend {text!r} is malformed: write NAME=MEM[@KIND][*SPEED], for example a=4GiB@cuda*8"
            )
        kind = match["kind"] or "cpu"
        if match["host"] == LOCAL:
            name, endpoint = _local_name(kind, n_local), None
        else:
            port = int(match["port"] or DEFAULT_PORT)
            name, endpoint = f"RPC{n_remote}", Endpoint(match["host"].strip("[]"), port)
            n_remote += 1
        size = parse_size(match["memory"])
        devices.append(Device(name, size, endpoint, kind=kind, free_bytes=size, total_bytes=size, speed=_speed(match)))
    return tuple(devices)


def _local_name(kind: str, n_local: dict[str, int]) -> str:
    if kind == "cpu":
        return HOST_DEVICE
    number = n_local[kind] = n_local.get(kind, -1) + 1
    return f"{kind.upper()}{number}"


def _speed(match: re.Match[str]) -> float:
    try:
        speed = float(match["speed"] or 1)
    except ValueError:
        speed = 0.0
    if speed <= 0:
        raise ConfigError(f"backend {match[0]!r}: speed {match['speed']} is not a positive number")
    return speed


def parse_boundaries(text: str) -> tuple[tuple[int, int], ...]:
    """Parse ``0-7,8-21`` into inclusive pairs; raise ConfigError."""
    pairs = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)-(\d+)\s*", part)
        if match is None:
            raise ConfigError(f"boundary {part!r} is malformed: write first-last, for example 0-7,8-21")
        pairs.append((int(match[1]), int(match[2])))
    return tuple(pairs)

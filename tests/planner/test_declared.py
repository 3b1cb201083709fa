"""Devices written on a command line."""

import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.planner.declared import parse_boundaries, parse_devices, parse_size

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 * GIB),
        ("4GB", 4 * GIB),
        ("4g", 4 * GIB),
        ("512MB", 512 << 20),
        ("2048KB", 2 << 20),
        ("1024B", 1024),
        ("1024", 1024),
        ("1.5GiB", 3 * GIB // 2),
        ("1TiB", 1024 * GIB),
    ],
)
def test_sizes_count_in_1024s(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "4 apples", "-4GiB", "4GiB4", "0x10", "1e9", "inf"])
def test_a_bad_size_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="size"):
        parse_size(text)


def test_backends_are_numbered_in_order() -> None:
    cpu, gpu, local, own = parse_devices(["a=4GiB", "b:7000=24GiB@cuda*8", "local=8GiB", "local=2GiB@cuda"])
    assert (cpu.name, cpu.endpoint, cpu.budget_bytes, cpu.kind, cpu.speed) == (
        "RPC0",
        Endpoint("a", 50052),
        4 * GIB,
        "cpu",
        1.0,
    )
    assert (gpu.name, gpu.endpoint, gpu.kind, gpu.speed) == ("RPC1", Endpoint("b", 7000), "cuda", 8.0)
    assert (local.name, local.is_local, own.name) == ("CPU", True, "CUDA0")


@pytest.mark.parametrize(
    "text", ["a", "=4GiB", "a=4GiB@", "a=4GiB*", "a=4GiB*0", "a=4GiB*1.2.3", "a=4GiB@CUDA 8", "a b=1"]
)
def test_a_bad_backend_is_named(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_devices([text])


def test_boundaries() -> None:
    assert parse_boundaries("0-7, 8-21") == ((0, 7), (8, 21))
    for text in ("", "0-7,", "7", "a-b", "0-7;8-21"):
        with pytest.raises(ConfigError, match="malformed"):
            parse_boundaries(text)

"""The server's own devices, as the engine lists them."""

from pathlib import Path

import pytest

from rpc_wrapper.devices import MIB
from rpc_wrapper.engine.binaries import Engine
from rpc_wrapper.engine.local import local_devices, parse_device_list

GPUS = """0.00.123.456 I found 2 devices
Available devices:
  CUDA0: Some GPU (24 GB) (24110 MiB, 23900 MiB free)
  Vulkan1: Other (8192 MiB, 8000 MiB free)
"""


def test_accelerators_keep_the_engines_names() -> None:
    first, second = parse_device_list(GPUS)
    assert (first.name, first.kind, first.budget_bytes, first.total_bytes) == (
        "CUDA0",
        "cuda",
        23900 * MIB,
        24110 * MIB,
    )
    assert (second.name, second.kind, second.is_local) == ("Vulkan1", "vulkan", True)


@pytest.mark.parametrize("listed", ["Available devices:", "Available devices:\n  (none)"])
def test_without_any_it_is_the_cpu_with_what_memory_there_is(tmp_path: Path, listed: str) -> None:
    server = tmp_path / "llama-server"
    server.write_text(f"#!/bin/sh\necho '{listed}'\n")
    server.chmod(0o755)
    (cpu,) = local_devices(Engine(server, server, "1", None))
    assert (cpu.name, cpu.kind) == ("CPU", "cpu")
    assert cpu.budget_bytes == cpu.total_bytes > 64 * MIB


def test_accelerators_leave_the_cpu_out(tmp_path: Path) -> None:
    server = tmp_path / "llama-server"
    server.write_text(f"#!/bin/sh\ncat <<'END'\n{GPUS}END\n")
    server.chmod(0o755)
    assert [each.name for each in local_devices(Engine(server, server, "1", None))] == ["CUDA0", "Vulkan1"]

"""The server's own devices, as llama-server lists them."""

import re

from rpc_wrapper.devices import MIB, Device
from rpc_wrapper.engine.binaries import Engine
from rpc_wrapper.engine.flags import output_of
from rpc_wrapper.engine.machine import available_bytes

LIST_TIMEOUT_S = 30.0  # a GPU's driver may have to wake up
HOST_CPU = "CPU"

_DEVICE = re.compile(r"^  (?P<name>\w+): .*\((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)$", re.MULTILINE)


def local_devices(engine: Engine) -> tuple[Device, ...]:
    """Return the accelerators of this machine, or else its CPU; raise EngineError. Blocks while the engine looks.

    The CPU may use what is available now, or the control group's limit if that is less. llama-server keeps it for the
    first blocks: ``--device`` cannot name it.
    """
    found = parse_device_list(output_of([str(engine.server), "--list-devices"], LIST_TIMEOUT_S))
    free = available_bytes()
    return found or (Device(HOST_CPU, free, free_bytes=free, total_bytes=free),)


def parse_device_list(text: str) -> tuple[Device, ...]:
    """Read what ``llama-server --list-devices`` prints: name, description, total and free MiB of each."""
    return tuple(
        Device(
            name=match["name"],
            budget_bytes=int(match["free"]) * MIB,
            kind=match["name"].rstrip("0123456789").lower(),
            free_bytes=int(match["free"]) * MIB,
            total_bytes=int(match["total"]) * MIB,
        )
        for match in _DEVICE.finditer(text)
    )

"""What llama-server is started with (:class:`ClusterConfig`), and one start of it (:class:`Start`)."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rpc_wrapper.devices import Device, Endpoint
from rpc_wrapper.engine import args, binaries
from rpc_wrapper.engine.loadlog import LoadLog
from rpc_wrapper.gateway.backends import BackendReport
from rpc_wrapper.gateway.links import LinkConfig
from rpc_wrapper.gateway.roll_call import Patience
from rpc_wrapper.planner import ModelProfile, Plan, PlanOptions, Workload
from rpc_wrapper.supervisor import Launch

SPEEDS_FILE = Path("~/.cache/rpc-wrapper/speeds.json")  # what the strategies compute and mixed have measured


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Everything a start of llama-server needs to know; times in seconds."""

    engine: binaries.Engine
    endpoints: tuple[Endpoint, ...]
    local_devices: tuple[Device, ...]
    profile: ModelProfile
    workload: Workload
    plan_options: PlanOptions
    server: args.ServerOptions
    environ: Mapping[str, str]
    links: LinkConfig = field(default_factory=LinkConfig)
    patience: Patience = field(default_factory=Patience)
    rejoin: str = "idle"
    rejoin_probes: int = 3
    stopped_s: float = 10.0
    load_silence_s: float = 120.0
    canary_s: float = 30.0
    canary_deadline_s: float = 60.0
    speeds_file: Path = SPEEDS_FILE


@dataclass(frozen=True, slots=True)
class Start:
    """One start: what was planned over whom, how to reach it, and what its log said.

    ``backends`` and ``devices`` are those the plan uses, ``considered`` all that could have been used.
    """

    plan: Plan
    devices: tuple[Device, ...]
    backends: tuple[BackendReport, ...]
    considered: tuple[Device, ...]
    addresses: Mapping[Endpoint, Endpoint]
    base_url: str
    api_key: str = field(repr=False)
    log: LoadLog = field(default_factory=LoadLog)
    loaded: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def known(self) -> frozenset[Endpoint]:
        """Return the backends that were there to be planned over."""
        used = (backend.endpoint for backend in self.backends)
        return frozenset(used) | {device.endpoint for device in self.considered if device.endpoint is not None}

    def engine_labels(self) -> dict[str, str]:
        """Return what the engine's log calls each device, by its name: it knows links, not backends."""
        return {device.name: self._at_link(device).label for device in self.devices}

    def _at_link(self, device: Device) -> Device:
        return replace(device, endpoint=self.addresses[device.endpoint]) if device.endpoint is not None else device


def start_of(launch: Launch) -> Start:
    """Return what a launch of ours carries."""
    assert isinstance(launch.detail, Start)
    return launch.detail

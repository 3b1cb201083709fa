"""What ``rpc-wrapper plan`` was asked for, and the plans that answer it."""

import asyncio
import ssl
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

from rpc_wrapper.cli.plan_store import open_store
from rpc_wrapper.devices import Device, parse_endpoints
from rpc_wrapper.errors import ConfigError, PlanError
from rpc_wrapper.gateway.backends import survey_usable
from rpc_wrapper.planner import ModelProfile, Plan, PlanOptions, Strategy, Workload, make_plan, read_profile
from rpc_wrapper.planner.declared import parse_boundaries, parse_devices
from rpc_wrapper.planner.memory import SplitMode
from rpc_wrapper.planner.placing import check_model
from rpc_wrapper.planner.plan import remap
from rpc_wrapper.planner.store import find
from rpc_wrapper.planner.strategies_file import read_strategies


@dataclass(frozen=True)
class Request:
    """The command line's options, as typed."""

    model: Path | None
    backend: list[str]
    rpc: str
    strategy: str
    memory_weight: float
    boundaries: str
    split_layer: int | None
    gpu_layers: int | None
    ctx_size: int
    parallel: int
    cache_type_k: str
    cache_type_v: str
    embeddings: bool
    split_mode: str
    load: str
    strategies_file: Path | None
    store: Path
    tls: ssl.SSLContext | None = None

    def make(self) -> Plan:
        """Make the plan that was asked for."""
        return make_plan(self.profile, self.devices, self.workload, self.options(self.strategy))

    def load_plan(self) -> Plan:
        """Return a saved plan, checked against the model and moved to the backends that are given."""
        plan = find(open_store(self.store), self.load).plan
        if self.model is not None:
            check_model(plan, self.profile)
        return remap(plan, self.devices) if self.backend or self.rpc else plan

    def compare(self) -> dict[str, Plan | PlanError]:
        """Make a plan by every strategy, or by every entry of a strategy file."""
        if self.strategies_file is None:
            names = [each for each in Strategy if each is not Strategy.CUSTOM or self.boundaries]
            return {str(name): self._try(self.devices, name) for name in names}
        entries, skipped = read_strategies(self.strategies_file)
        for sentence in skipped:
            print(sentence, file=sys.stderr)
        outcomes: dict[str, Plan | PlanError] = {}
        for entry in entries:
            try:
                outcomes[entry.name] = make_plan(
                    self.profile, entry.devices(self.devices), self.workload, entry.options()
                )
            except PlanError as error:
                outcomes[entry.name] = error
        return outcomes

    def _try(self, devices: tuple[Device, ...], strategy: Strategy) -> Plan | PlanError:
        try:
            return make_plan(self.profile, devices, self.workload, self.options(strategy))
        except PlanError as error:
            return error

    @cached_property
    def profile(self) -> ModelProfile:
        """Return the model's profile."""
        if self.model is None:
            raise ConfigError("no model is given: write rpc-wrapper plan MODEL.gguf")
        return read_profile(self.model)

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """Return the devices that were declared, after those that were asked."""
        if not self.backend and not self.rpc:
            raise ConfigError(
                "no backend is given: declare some with --backend a=4GiB, or ask some with --rpc HOST:PORT"
            )
        asked = _ask(self.rpc, self.tls)
        declared = parse_devices(self.backend)
        remote = [device for device in (*asked, *declared) if not device.is_local]
        numbered = [replace(device, name=f"RPC{number}") for number, device in enumerate(remote)]
        return (*numbered, *(device for device in declared if device.is_local))

    @property
    def workload(self) -> Workload:
        """Return what will be asked of the model."""
        return Workload(
            ctx_size=self.ctx_size,
            n_parallel=self.parallel,
            cache_type_k=self.cache_type_k,
            cache_type_v=self.cache_type_v,
            embeddings=self.embeddings,
            split_mode=cast("SplitMode", self.split_mode),  # checked by Workload itself
        )

    def options(self, strategy: str) -> PlanOptions:
        """Return how to plan with one strategy."""
        if strategy not in list(Strategy):
            raise ConfigError(f"strategy {strategy!r} is unknown, use all or one of {', '.join(Strategy)}")
        custom = strategy == Strategy.CUSTOM
        return PlanOptions(
            strategy=Strategy(strategy),
            memory_weight=self.memory_weight,
            boundaries=parse_boundaries(self.boundaries)
            if self.boundaries and (custom or self.strategy != "all")
            else (),
            split_layer=self.split_layer,
            gpu_layers=self.gpu_layers,
        )


def _ask(endpoints: str, tls: ssl.SSLContext | None) -> list[Device]:
    """Ask running backends for their devices and budgets; raise ConfigError when one does not answer."""
    devices: list[Device] = []
    for report in asyncio.run(survey_usable(parse_endpoints(endpoints), tls)) if endpoints else ():
        devices += report.devices(len(devices))
    return devices

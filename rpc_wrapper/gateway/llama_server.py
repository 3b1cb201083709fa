"""What the supervisor has to know about llama-server: what to start it with, when it is ready, whether it is well."""

import asyncio
import logging
import secrets
import shlex
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace

import httpx

from rpc_wrapper.devices import Device, Endpoint
from rpc_wrapper.engine import args, flags
from rpc_wrapper.engine.client import EngineClient
from rpc_wrapper.engine.failure import Failure, classify
from rpc_wrapper.engine.oom import read_oom_kills
from rpc_wrapper.errors import ConfigError, PlanError, ProcessError, RPCWrapperError
from rpc_wrapper.gateway.backends import BackendReport, Scout
from rpc_wrapper.gateway.links import Links
from rpc_wrapper.gateway.load_watch import LoadLimits
from rpc_wrapper.gateway.loading import Loading
from rpc_wrapper.gateway.muster import Muster
from rpc_wrapper.gateway.news import News
from rpc_wrapper.gateway.placement import Placement, number_devices, use_only_planned
from rpc_wrapper.gateway.proof import differences
from rpc_wrapper.gateway.roll_call import RollCall
from rpc_wrapper.gateway.speeds import timed
from rpc_wrapper.gateway.start import ClusterConfig, Start, start_of
from rpc_wrapper.gateway.watches import Pulse, Sources, Watches, first_of
from rpc_wrapper.logs import fields, redact
from rpc_wrapper.planner import Plan, Strategy, make_plan
from rpc_wrapper.planner.placing import place
from rpc_wrapper.supervisor import Child, Diagnosis, Fault, FaultSeen, Launch, PermanentFailure, Readiness
from rpc_wrapper.supervisor.effects import Report

HEALTH_PAUSE_S = 0.05
LOAD_BYTES_PER_S = 1_000_000  # a start is given up when even 8 Mbit/s would have loaded it
LOAD_FLOOR_S = 120.0

log = logging.getLogger(__name__)


class LlamaServer:
    """The effects of llama-server's life cycle (:class:`rpc_wrapper.supervisor.Effects`)."""

    def __init__(self, config: ClusterConfig, http: httpx.AsyncClient) -> None:
        self._config = config
        self.scout = Scout(http, config.links.tls)
        self.muster = Muster(config.endpoints, self.scout, config.patience, config.rejoin_probes)
        self._news = News()
        self.links = Links(config.links, self._news.tell)
        self.pulse = Pulse()
        self._watches = Watches(config, Sources(self.scout, self.links, self._news, self.muster, self.pulse))
        self._was_ready = False
        self._oom_kills = read_oom_kills()
        self.start: Start | None = None  # the newest, whether it runs or not
        self.loading: Loading | None = None  # the load under way

    def attach(self, restart: Callable[[str], None], note: Callable[[str], None]) -> None:
        """Take the two things that only the owner of the life cycle can do: start it again, and write history."""
        self._watches.on_newcomer, self.muster.note = restart, note

    @property
    def reports(self) -> tuple[BackendReport, ...]:
        """Return what is known of every backend."""
        return self.muster.reports

    # Before the start.

    async def prepare(self, report: Report) -> Launch:
        """Wait for the backends, plan over them, and say what to start."""
        self._blame(self._news.drain())
        last = self.start.known if self.start is not None else frozenset[Endpoint]()
        fit = self._fit if self._was_ready else None
        roll = await self.muster.gather({str(backend) for backend in last}, report, fit)
        considered = await self._timed(self._devices(roll.usable), roll, report)
        plan = self._plan(considered, is_final=not roll.absent)
        report(f"planned {self._config.profile.n_layer} blocks over {len(plan.assignments)} devices")
        placement = use_only_planned(plan, roll.usable, self._config.local_devices)
        return await self._launch(placement, considered)

    def check_fit(self, backends: Sequence[BackendReport]) -> None:
        """Raise PlanError, with the ways out, when the model would not fit on these backends alone."""
        devices = self._devices([each for each in backends if each.may_be_used])
        make_plan(self._config.profile, devices, self._config.workload, self._config.plan_options)

    def _devices(self, backends: Sequence[BackendReport]) -> tuple[Device, ...]:
        try:
            return number_devices(backends, self._config.local_devices)
        except ConfigError as error:
            raise PermanentFailure(error) from error

    def _fit(self, roll: RollCall) -> None:
        """Raise PlanError when the model does not fit on those who can be used: a plan, but without ways out of it."""
        place(self._config.profile, self._devices(roll.usable), self._config.workload, self._config.plan_options)

    async def _timed(self, devices: tuple[Device, ...], roll: RollCall, report: Report) -> tuple[Device, ...]:
        """Measure how fast each device is, when the strategy asks for it and nobody has yet."""
        if self._config.plan_options.strategy not in (Strategy.COMPUTE, Strategy.MIXED):
            return devices
        report("timing the model's blocks on each backend")
        return await timed(self._config, devices, await self.links.open(roll.usable))

    def _plan(self, devices: tuple[Device, ...], *, is_final: bool) -> Plan:
        """Plan over the devices; a refusal is final when nobody is missing whose memory could help."""
        try:
            return make_plan(self._config.profile, devices, self._config.workload, self._config.plan_options)
        except PlanError as error:
            raise PermanentFailure(error) if is_final else error from error

    async def _launch(self, placement: Placement, considered: tuple[Device, ...]) -> Launch:
        program = self._config.engine.server
        accepted = await asyncio.to_thread(flags.accepted_flags, program)
        addresses = await self.links.open(placement.backends)
        options = replace(
            self._config.server,
            endpoints=tuple(str(addresses[backend.endpoint]) for backend in placement.backends),
            placement=tuple(placement.plan.argv()),
        )
        argv = tuple(args.server_argv(program, options, accepted))
        api_key = secrets.token_urlsafe(24)
        redact.add(api_key)
        log.info("starting: %s", shlex.join(argv))
        self._news.drain()  # what happened on the links before this start is no fault of it
        self._oom_kills = read_oom_kills()
        base_url = f"http://{options.host}:{options.port}"
        self.start = start = Start(
            placement.plan, placement.devices, placement.backends, considered, addresses, base_url, api_key
        )
        deadline_s = LOAD_FLOOR_S + self._config.profile.file_bytes / LOAD_BYTES_PER_S
        environ = args.server_environ(self._config.environ, api_key)
        return Launch(argv, environ, detail=start, ready_deadline_s=deadline_s)

    # While it runs.

    def hear(self, launch: Launch, line: str) -> None:
        """Read the load log as it comes."""
        log.debug("llama-server: %s", line, extra=fields(source="llama-server"))
        start = start_of(launch)
        start.log.feed(line)
        if start.log.is_listening:
            start.loaded.set()

    async def await_ready(self, launch: Launch, child: Child, report: Report) -> Readiness:
        """Wait for the load, prove the plan from the load log, and see a token come out."""
        start, began = start_of(launch), time.monotonic()
        limits = LoadLimits(self._config.load_silence_s, self._config.links.deadlines.first_graph_s)
        loading = Loading(start, self.links, self._config.profile.file_bytes, limits)
        self.loading = loading
        try:
            await self._unless(start.loaded.wait(), loading.until_silent(report), self._watches.while_starting(start))
        finally:
            self.loading = None
        loaded = time.monotonic()
        wrong = differences(start.plan, start.engine_labels(), start.log)
        if wrong:
            raise PermanentFailure(ProcessError(f"the engine did not follow the plan: {'; '.join(wrong)}"))
        report("loaded as planned, waiting for a first token")
        await self._unless(self._first_token(start), self._watches.while_starting(start))
        self._was_ready = True
        self.pulse.beat()
        return Readiness("a token came out", loaded - began, time.monotonic() - loaded)

    async def _first_token(self, start: Start) -> None:
        async with EngineClient(start.base_url, start.api_key) as client:
            while not await client.is_healthy():  # noqa: ASYNC110  (it has no event to wait for)
                await asyncio.sleep(HEALTH_PAUSE_S)
            await client.canary(self._config.canary_deadline_s)

    async def _unless(
        self, work: Coroutine[object, object, object], *watches: Coroutine[object, object, Fault]
    ) -> None:
        """Await `work`; raise FaultSeen when a watch finds something before it is done."""
        fault = None
        try:
            async with asyncio.TaskGroup() as group:
                working, watching = group.create_task(work), group.create_task(first_of(watches))
                await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
                fault = watching.result() if watching.done() and not working.done() else None
                working.cancel()
                watching.cancel()
        except* RPCWrapperError as errors:
            raise errors.exceptions[0] from None
        if fault is not None:
            self._blame([fault])
            raise FaultSeen(replace(fault, phase=fault.phase or "load"))

    async def watch(self, launch: Launch, child: Child) -> Fault:
        """Return as soon as a backend is known to be lost or no token comes out any more."""
        fault = await self._watches.while_ready(start_of(launch))
        self._blame([fault])
        return fault

    def _blame(self, faults: Sequence[Fault]) -> None:
        """Keep those who failed out of the next plans until they have proved themselves."""
        for fault in faults:
            if fault.backend is not None:
                self.muster.blame(fault.backend, fault.text)

    def classify(self, lines: Sequence[str], returncode: int) -> Diagnosis:
        """Say why it ended, and which backend was lost when its link knows: the engine's own log does not say."""
        short = read_oom_kills().since(self._oom_kills)
        failure = classify(lines, returncode, oom_killed=short is not None)
        lost = self._news.drain()
        self._blame(lost)
        if failure is Failure.BACKEND_LOST and lost:
            return Diagnosis(failure.value, f"{lost[0].text}.", failure.is_permanent, lost[0].backend)
        advice = f"{short}. {failure.advice}" if failure is Failure.OUT_OF_MEMORY and short else failure.advice
        return Diagnosis(failure.value, advice, failure.is_permanent)

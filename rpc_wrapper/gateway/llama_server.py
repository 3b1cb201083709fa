"""What the supervisor has to know about llama-server: what to start it with, when it is ready, whether it is well."""

import asyncio
import contextlib
import logging
import secrets
import shlex
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace

import httpx

from rpc_wrapper.devices import MAX_DEVICES, Device
from rpc_wrapper.engine import args, flags
from rpc_wrapper.engine.client import EngineClient
from rpc_wrapper.engine.failure import Failure, classify
from rpc_wrapper.errors import ConfigError, PlanError, ProcessError, RPCWrapperError
from rpc_wrapper.gateway.backends import BackendReport, Scout
from rpc_wrapper.gateway.links import Links
from rpc_wrapper.gateway.proof import differences
from rpc_wrapper.gateway.roll_call import RollCall, call_roll
from rpc_wrapper.gateway.speeds import timed
from rpc_wrapper.gateway.start import ClusterConfig, Start, start_of
from rpc_wrapper.gateway.watches import Pulse, Watches
from rpc_wrapper.link.events import LinkEvent
from rpc_wrapper.logs import redact
from rpc_wrapper.planner import Plan, Strategy, make_plan
from rpc_wrapper.supervisor import Child, Diagnosis, Fault, Launch, PermanentFailure
from rpc_wrapper.supervisor.effects import Report

SURVEY_PAUSE_S = 0.5  # between two surveys while somebody is missing
HEALTH_PAUSE_S = 0.05
PROGRESS_S = 0.5
LOAD_BYTES_PER_S = 1_000_000  # a start is given up when even 8 Mbit/s would have loaded it
LOAD_FLOOR_S = 120.0

log = logging.getLogger(__name__)


class LlamaServer:
    """The effects of llama-server's life cycle (:class:`rpc_wrapper.supervisor.Effects`)."""

    def __init__(self, config: ClusterConfig, http: httpx.AsyncClient) -> None:
        self._config = config
        self._scout = Scout(http, config.links.tls)
        self._was_ready = False
        self._news: asyncio.Queue[LinkEvent] = asyncio.Queue()
        self.links = Links(config.links, self._news.put_nowait)
        self.pulse = Pulse()
        self.on_newcomer: Callable[[str], None] = log.info  # whoever owns the life cycle puts its restart here
        self._watches = Watches(config, self._scout, self._news, self.pulse, self._tell_newcomer)
        self.reports: tuple[BackendReport, ...] = ()
        self.start: Start | None = None  # the newest, whether it runs or not

    def _tell_newcomer(self, reason: str) -> None:
        self.on_newcomer(reason)

    # Before the start.

    async def prepare(self, report: Report) -> Launch:
        """Wait for the backends, plan over them, and say what to start."""
        roll = await self._gather(report)
        devices = await self._timed(self._devices(roll), roll, report)
        plan = self._plan(devices, is_final=roll.is_complete)
        report(f"planned {self._config.profile.n_layer} blocks over {len(plan.assignments)} devices")
        return await self._launch(plan, devices, roll.usable)

    async def _gather(self, report: Report) -> RollCall:
        """Survey the backends until enough answer; before the first readiness only for `wait_s`."""
        deadline = time.monotonic() + self._config.wait_s
        while True:
            self.reports = await self._scout.survey(self._config.endpoints)
            roll = call_roll(self.reports, self._config.min_backends)
            if roll.is_complete:
                return roll
            is_over = time.monotonic() >= deadline
            if not self._was_ready and roll.hopeless:
                raise PermanentFailure(ConfigError(f"{roll.sentence}; mend APP_RPC_BACKENDS or that backend"))
            if is_over and roll.is_enough:
                return roll
            if is_over and not self._was_ready:
                waited = f"waited {self._config.wait_s:g} s (APP_WAIT_S)"
                raise PermanentFailure(ProcessError(f"{waited}: {roll.sentence}"))
            report(roll.sentence)
            await asyncio.sleep(SURVEY_PAUSE_S)

    def _devices(self, roll: RollCall) -> tuple[Device, ...]:
        """Number the devices as the engine will: over the endpoints in order, then its own."""
        devices: list[Device] = []
        for backend in roll.usable:
            devices += backend.devices(len(devices))
        devices += self._config.local_devices
        if len(devices) > MAX_DEVICES:
            raise PermanentFailure(
                ConfigError(f"the backends expose {len(devices)} devices, the engine splits over {MAX_DEVICES} at most")
            )
        return tuple(devices)

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

    async def _launch(self, plan: Plan, devices: tuple[Device, ...], backends: tuple[BackendReport, ...]) -> Launch:
        program = self._config.engine.server
        accepted = await asyncio.to_thread(flags.accepted_flags, program)
        addresses = await self.links.open(backends)
        options = replace(
            self._config.server,
            endpoints=tuple(str(addresses[backend.endpoint]) for backend in backends),
            placement=tuple(plan.argv()),
        )
        argv = tuple(args.server_argv(program, options, accepted))
        api_key = secrets.token_urlsafe(24)
        redact.add(api_key)
        log.info("starting: %s", shlex.join(argv))
        while not self._news.empty():  # what happened on the links before this start is no fault of it
            self._news.get_nowait()
        self.start = start = Start(plan, devices, backends, addresses, f"http://{options.host}:{options.port}", api_key)
        deadline_s = LOAD_FLOOR_S + self._config.profile.file_bytes / LOAD_BYTES_PER_S
        environ = args.server_environ(self._config.environ, api_key)
        return Launch(argv, environ, detail=start, ready_deadline_s=deadline_s)

    # While it runs.

    def hear(self, launch: Launch, line: str) -> None:
        """Read the load log as it comes."""
        log.debug("llama-server: %s", line)
        start = start_of(launch)
        start.log.feed(line)
        if start.log.is_listening:
            start.loaded.set()

    async def await_ready(self, launch: Launch, child: Child, report: Report) -> str:
        """Wait for the load, prove the plan from the load log, and see a token come out."""
        start = start_of(launch)
        await self._unless_a_link_fails(_loaded(start, report))
        wrong = differences(start.plan, start.engine_labels(), start.log)
        if wrong:
            raise PermanentFailure(ProcessError(f"the engine did not follow the plan: {'; '.join(wrong)}"))
        report("loaded as planned, waiting for a first token")
        async with EngineClient(start.base_url, start.api_key) as client:
            while not await client.is_healthy():  # noqa: ASYNC110  (it has no event to wait for)
                await asyncio.sleep(HEALTH_PAUSE_S)
            await self._unless_a_link_fails(client.canary(self._config.canary_deadline_s))
        self._was_ready = True
        self.pulse.beat()
        return "a token came out"

    async def _unless_a_link_fails(self, work: Coroutine[object, object, object]) -> None:
        """Await `work`; raise ProcessError when a link loses its backend, or finds it silent, before it is done."""
        fault = None
        try:
            async with asyncio.TaskGroup() as group:
                working, failing = group.create_task(work), group.create_task(self._watches.links())
                await asyncio.wait([working, failing], return_when=asyncio.FIRST_COMPLETED)
                fault = failing.result() if failing.done() and not working.done() else None
                working.cancel()
                failing.cancel()
        except* RPCWrapperError as errors:
            raise errors.exceptions[0] from None
        if fault is not None:
            raise ProcessError(fault.text)

    async def watch(self, launch: Launch, child: Child) -> Fault:
        """Return as soon as a backend is known to be lost or no token comes out any more."""
        return await self._watches.first_fault(start_of(launch))

    def classify(self, lines: Sequence[str], returncode: int) -> Diagnosis:
        """Say why it ended, and which backend was lost when its link knows: the engine's own log does not say."""
        failure = classify(lines, returncode)
        news = [str(self._news.get_nowait()) for _ in range(self._news.qsize())]
        advice = f"{news[0]}." if failure is Failure.BACKEND_LOST and news else failure.advice
        return Diagnosis(failure.value, advice, failure.is_permanent)


async def _loaded(start: Start, report: Report) -> None:
    """Wait for the load, and report each phase as it begins."""
    while not start.loaded.is_set():
        report(start.log.progress)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROGRESS_S):
                await start.loaded.wait()

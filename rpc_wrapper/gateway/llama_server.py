"""What the supervisor has to know about llama-server: what to start it with, when it is ready, whether it is well."""

import asyncio
import contextlib
import logging
import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import httpx

from rpc_wrapper.devices import MAX_DEVICES, Device, Endpoint
from rpc_wrapper.engine import args, binaries, flags
from rpc_wrapper.engine.client import EngineClient
from rpc_wrapper.engine.failure import Failure, classify
from rpc_wrapper.engine.loadlog import LoadLog
from rpc_wrapper.errors import ConfigError, PlanError, ProcessError, UpstreamError
from rpc_wrapper.gateway.backends import BackendReport, ask_agent, survey
from rpc_wrapper.gateway.links import LinkConfig, Links
from rpc_wrapper.gateway.proof import differences
from rpc_wrapper.gateway.roll_call import RollCall, call_roll
from rpc_wrapper.link.events import LinkEvent, Refused, Silence
from rpc_wrapper.logs import redact
from rpc_wrapper.planner import ModelProfile, Plan, PlanOptions, Workload, make_plan
from rpc_wrapper.supervisor import Child, Diagnosis, Fault, FaultKind, Launch, PermanentFailure
from rpc_wrapper.supervisor.effects import Report

PROBE_TIMEOUT_S = 3.0
SURVEY_PAUSE_S = 0.5  # between two surveys while somebody is missing
HEALTH_PAUSE_S = 0.05
PROGRESS_S = 0.5
HEARTBEAT_S = 0.5
LOAD_BYTES_PER_S = 1_000_000  # a start is given up when even 8 Mbit/s would have loaded it
LOAD_FLOOR_S = 120.0

log = logging.getLogger(__name__)


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
    wait_s: float = 120.0
    min_backends: int | None = None
    canary_s: float = 30.0
    canary_deadline_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start: what was planned over whom, how to reach it, and what its log said."""

    plan: Plan
    devices: tuple[Device, ...]
    backends: tuple[BackendReport, ...]
    addresses: Mapping[Endpoint, Endpoint]
    base_url: str
    api_key: str = field(repr=False)
    log: LoadLog = field(default_factory=LoadLog)
    loaded: asyncio.Event = field(default_factory=asyncio.Event)

    def engine_labels(self) -> dict[str, str]:
        """Return what the engine's log calls each device, by its name: it knows links, not backends."""
        return {device.name: self._at_link(device).label for device in self.devices}

    def _at_link(self, device: Device) -> Device:
        return replace(device, endpoint=self.addresses[device.endpoint]) if device.endpoint is not None else device


class LlamaServer:
    """The effects of llama-server's life cycle (:class:`rpc_wrapper.supervisor.Effects`)."""

    def __init__(self, config: ClusterConfig, http: httpx.AsyncClient) -> None:
        self._config = config
        self._http = http
        self._was_ready = False
        self._news: asyncio.Queue[LinkEvent] = asyncio.Queue()
        self.links = Links(config.links, self._news.put_nowait)
        self.reports: tuple[BackendReport, ...] = ()
        self.start: Start | None = None  # the newest, whether it runs or not
        self.token_at: float | None = None  # when a token was last seen to come out, by the monotonic clock

    # Before the start.

    async def prepare(self, report: Report) -> Launch:
        """Wait for the backends, plan over them, and say what to start."""
        roll = await self._gather(report)
        devices = self._devices(roll)
        plan = self._plan(devices, is_final=roll.is_complete)
        report(f"planned {self._config.profile.n_layer} blocks over {len(plan.assignments)} devices")
        return await self._launch(plan, devices, roll.usable)

    async def _gather(self, report: Report) -> RollCall:
        """Survey the backends until enough answer; before the first readiness only for `wait_s`."""
        deadline = time.monotonic() + self._config.wait_s
        while True:
            self.reports = await survey(self._config.endpoints, self._http, PROBE_TIMEOUT_S)
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
                raise PermanentFailure(ConfigError(f"{waited}: {roll.sentence}"))
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
        await _reporting(start, report)
        wrong = differences(start.plan, start.engine_labels(), start.log)
        if wrong:
            raise PermanentFailure(ProcessError(f"the engine did not follow the plan: {'; '.join(wrong)}"))
        report("loaded as planned, waiting for a first token")
        async with EngineClient(start.base_url, start.api_key) as client:
            while not await client.is_healthy():  # noqa: ASYNC110  (it has no event to wait for)
                await asyncio.sleep(HEALTH_PAUSE_S)
            await client.canary(self._config.canary_deadline_s)
        self._was_ready = True
        self.note_token()
        return "a token came out"

    def note_token(self) -> None:
        """Take note that a token came out just now."""
        self.token_at = time.monotonic()

    async def watch(self, launch: Launch, child: Child) -> Fault:
        """Return as soon as a backend is known to be lost or no token comes out any more."""
        start = start_of(launch)
        workers = (self._watch_worker(backend) for backend in start.backends)
        watches = [self._watch_links(), self._watch_tokens(start), *workers]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watch) for watch in watches]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        return next(iter(done)).result()

    async def _watch_links(self) -> Fault:
        """Wait for a link to lose its backend or to find it silent."""
        while True:
            event = await self._news.get()
            if isinstance(event, Refused):
                log.error("%s", event)
                continue
            kind = FaultKind.SILENCE if isinstance(event, Silence) else FaultKind.CONNECTION
            waited_s = event.waited_s if isinstance(event, Silence) else None
            return Fault(kind, str(event), backend=str(event.endpoint), detected_after_s=waited_s)

    async def _watch_worker(self, backend: BackendReport) -> Fault:
        """Ask a backend's agent again and again whether it is still the worker that we started on.

        llama-server itself notices a lost worker only when it next needs it. An agent that does not answer says
        nothing about the worker: the data path may well flow.
        """
        known = backend.agent.pid if backend.agent else None
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            now = await ask_agent(backend.endpoint, self._http)
            if known is not None and now is not None and now.pid != known:
                text = f"the worker of {backend.endpoint} has ended: {now.last_exit or 'it was restarted'}"
                return Fault(FaultKind.EXIT, text, backend=str(backend.endpoint), detected_after_s=HEARTBEAT_S)

    async def _watch_tokens(self, start: Start) -> Fault:
        """Ask for a token whenever none was seen for a while."""
        async with EngineClient(start.base_url, start.api_key) as client:
            while True:
                while (left_s := self._idle_left_s()) > 0:  # noqa: ASYNC110  (time itself is what is awaited)
                    await asyncio.sleep(left_s)
                fault = await self._canary(client)
                if fault is not None:
                    return fault

    def _idle_left_s(self) -> float:
        since = self.token_at if self.token_at is not None else time.monotonic()
        return max(0.0, since + self._config.canary_s - time.monotonic())

    async def _canary(self, client: EngineClient) -> Fault | None:
        began = time.monotonic()
        try:
            await client.canary(self._config.canary_deadline_s)
        except UpstreamError as error:
            if self._idle_left_s() > 0:  # somebody else's token came meanwhile: it lives, it is only busy
                return None
            waited_s = time.monotonic() - began
            text = f"no token came out in {waited_s:.1f} s: {error}"
            return Fault(FaultKind.CANARY, text, phase="idle", detected_after_s=waited_s)
        self.note_token()
        return None

    def classify(self, lines: Sequence[str], returncode: int) -> Diagnosis:
        """Say why it ended, and which backend was lost when its link knows: the engine's own log does not say."""
        failure = classify(lines, returncode)
        news = [str(self._news.get_nowait()) for _ in range(self._news.qsize())]
        advice = f"{news[0]}." if failure is Failure.BACKEND_LOST and news else failure.advice
        return Diagnosis(failure.value, advice, failure.is_permanent)


def start_of(launch: Launch) -> Start:
    """Return what a launch of ours carries."""
    assert isinstance(launch.detail, Start)
    return launch.detail


async def _reporting(start: Start, report: Report) -> None:
    """Wait for the load, and report each phase as it begins."""
    while not start.loaded.is_set():
        report(start.log.progress)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROGRESS_S):
                await start.loaded.wait()

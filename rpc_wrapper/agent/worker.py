"""What the supervisor has to know about a worker: how to start it, when it is ready, why it died."""

import asyncio
import contextlib
import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from rpc_wrapper.devices import MIB
from rpc_wrapper.engine import args, binaries, flags, loadlog, machine
from rpc_wrapper.engine.oom import read_oom_kills
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.link.cache import TensorCache
from rpc_wrapper.link.gate import Gate
from rpc_wrapper.logs import fields
from rpc_wrapper.rpc import ProbeState
from rpc_wrapper.supervisor import Child, Diagnosis, Fault, FaultKind, Launch, Readiness
from rpc_wrapper.supervisor.effects import Report

READY_DEADLINE_S = 60.0  # a CUDA worker may spend most of this in its driver
PROBE_TIMEOUT_S = 5.0
PROBE_PAUSE_S = 0.05
LOOK_S = 0.5  # how often to look whether somebody is inside
IDLE_HELLO_S = 10.0  # how often an idle worker is asked
STOPPED_S = 1.0  # what a worker in state T is given instead of PROBE_TIMEOUT_S
SPARE_MIB = 256  # what a container needs beyond APP_MEM
BANNER_LINES = 40

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How to run one worker."""

    engine: binaries.Engine
    options: args.WorkerOptions
    environ: Mapping[str, str]
    rlimit_as_bytes: int | None = None
    cache: TensorCache | None = None
    budget_bytes: int = 0


class Worker:
    """The effects of a worker's life cycle (:class:`rpc_wrapper.supervisor.Effects`), behind its gate."""

    def __init__(self, config: WorkerConfig, gate: Gate) -> None:
        self._config = config
        self._gate = gate
        self._oom_kills = read_oom_kills()
        self._banner: list[str] = []  # what it prints before it listens: its devices, among others

    @property
    def device_names(self) -> tuple[str, ...]:
        """Return the devices the running worker exposes, in the order of the wire."""
        return loadlog.worker_devices(self._banner)

    async def prepare(self, report: Report) -> Launch:
        """Build the argv from the flags the program accepts."""
        program = self._config.engine.worker
        accepted = await asyncio.to_thread(flags.accepted_flags, program)
        argv = tuple(args.worker_argv(program, self._config.options, accepted))
        self._banner.clear()
        self._gate.forget()
        self._oom_kills = read_oom_kills()
        environ = await asyncio.to_thread(self._with_cache)
        log.info("starting: %s", shlex.join(argv))
        return Launch(
            argv,
            environ,
            rlimit_as_bytes=self._config.rlimit_as_bytes,
            ready_deadline_s=READY_DEADLINE_S,
        )

    def _with_cache(self) -> Mapping[str, str]:
        """Put the cache in order while no worker writes to it, and return the environment that names it."""
        cache = self._config.cache
        if cache is None:
            return self._config.environ
        try:
            pruned = cache.begin(machine.boot_id())
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            raise ConfigError(
                f"the tensor cache cannot be used ({reason}): set APP_CACHE_DIR, or APP_CACHE=off"
            ) from error
        if pruned.damaged or pruned.evicted:
            log.info("tensor cache: removed %d damaged, %d old files", len(pruned.damaged), len(pruned.evicted))
        self._gate.on_hash = self._distrust
        return {**self._config.environ, "LLAMA_CACHE": str(cache.folder)}

    def _distrust(self, digest: int, size_bytes: int) -> None:
        cache = self._config.cache
        if cache is not None and cache.drop_if_cut(digest, size_bytes):
            where = cache.folder
            log.warning("tensor cache: %016x was cut short and is sent again: is the disk of %s full?", digest, where)

    def hear(self, launch: Launch, line: str) -> None:
        """Keep the banner; what follows speaks of its clients."""
        log.debug("worker: %s", line, extra=fields(source="worker"))
        if len(self._banner) < BANNER_LINES:
            self._banner.append(line)

    async def await_ready(self, launch: Launch, child: Child, report: Report) -> Readiness:
        """Say HELLO until it answers; the state's deadline ends this.

        Its output cannot tell: into a pipe the banner is flushed with the first client only (ggml-rpc.cpp).
        """
        while True:
            result = await self._gate.refresh(PROBE_TIMEOUT_S)
            if result.state is ProbeState.OK:
                return Readiness(f"answers HELLO, RPC protocol {result.version}")
            await asyncio.sleep(PROBE_PAUSE_S)

    async def watch(self, launch: Launch, child: Child) -> Fault:
        """Say HELLO whenever nobody is inside: a worker that is silent then serves nobody any more.

        One that is in use is judged by whoever uses it. Its exit is noticed without us.
        """
        answered_at, was_in_use = time.monotonic(), False
        while True:
            await asyncio.sleep(LOOK_S)
            is_in_use = self._gate.is_in_use
            is_due = was_in_use or time.monotonic() - answered_at >= IDLE_HELLO_S
            was_in_use = is_in_use
            if is_in_use or not is_due:
                continue
            fault = await self._silence(child)
            if fault is not None:
                self._gate.forget()
                return fault
            answered_at = time.monotonic()

    async def _silence(self, child: Child) -> Fault | None:
        began = time.monotonic()
        deadline_s = STOPPED_S if process_state(child.pid) == psutil.STATUS_STOPPED else PROBE_TIMEOUT_S
        with contextlib.suppress(TimeoutError):  # it may not even let go of its last client
            async with asyncio.timeout(deadline_s):
                if (await self._gate.refresh(deadline_s)).state is ProbeState.OK:
                    return None
        waited_s = time.monotonic() - began
        text = f"nobody uses the worker, and it does not answer HELLO (its process is {process_state(child.pid)})"
        return Fault(FaultKind.SILENCE, text, None, "idle", waited_s, deadline_s)

    def classify(self, lines: Sequence[str], returncode: int) -> Diagnosis:
        """Say why it ended; from here on the gate turns everybody away."""
        self._gate.forget()
        if self._config.cache is not None:
            self._config.cache.end()
        short = read_oom_kills().since(self._oom_kills)
        failure = loadlog.classify(lines, returncode, oom_killed=short is not None)
        if failure is not loadlog.Failure.OUT_OF_MEMORY:
            return Diagnosis(failure.value, failure.advice, failure.is_permanent)
        budget_mib = self._config.budget_bytes // MIB
        why = short or "the system gave it no more"
        advice = f"{why}; it lends APP_MEM={budget_mib}: lower that, or allow {budget_mib + SPARE_MIB} MiB and more."
        return Diagnosis(failure.value, advice)


def process_state(pid: int | None) -> str | None:
    """Return what the kernel says of a process (running, sleeping, stopped ...), None when there is none."""
    try:
        return str(psutil.Process(pid).status()) if pid is not None else None
    except psutil.Error:
        return None

"""What the supervisor has to know about a worker: how to start it, when it is ready, why it died."""

import asyncio
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rpc_wrapper.engine import args, binaries, flags, loadlog
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.link.cache import prune
from rpc_wrapper.link.gate import Gate
from rpc_wrapper.rpc import ProbeState
from rpc_wrapper.supervisor import Child, Diagnosis, Fault, Launch
from rpc_wrapper.supervisor.effects import Report

READY_DEADLINE_S = 60.0  # a CUDA worker may spend most of this in its driver
PROBE_TIMEOUT_S = 5.0
PROBE_PAUSE_S = 0.05
BANNER_LINES = 40

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Where the worker keeps large tensors between its starts, and how much of them."""

    folder: Path
    quota_bytes: int

    def prune(self, *, is_suspect: bool) -> None:
        """Bring the cache within its quota; after a death, check the file that was written last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        pruned = prune(self.folder / "rpc", self.quota_bytes, verify=int(is_suspect))
        if pruned.damaged or pruned.evicted:
            log.info("tensor cache: removed %d damaged, %d old files", len(pruned.damaged), len(pruned.evicted))


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How to run one worker."""

    engine: binaries.Engine
    options: args.WorkerOptions
    environ: Mapping[str, str]
    rlimit_as_bytes: int | None = None
    cache: CacheConfig | None = None


class Worker:
    """The effects of a worker's life cycle (:class:`rpc_wrapper.supervisor.Effects`), behind its gate."""

    def __init__(self, config: WorkerConfig, gate: Gate) -> None:
        self._config = config
        self._gate = gate
        self._has_died = False
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
            cache.prune(is_suspect=self._has_died)
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            raise ConfigError(
                f"the tensor cache cannot be used ({reason}): set APP_CACHE_DIR, or APP_CACHE=off"
            ) from error
        self._has_died = False
        return {**self._config.environ, "LLAMA_CACHE": str(cache.folder)}

    def hear(self, launch: Launch, line: str) -> None:
        """Keep the banner; what follows speaks of its clients."""
        log.debug("worker: %s", line)
        if len(self._banner) < BANNER_LINES:
            self._banner.append(line)

    async def await_ready(self, launch: Launch, child: Child, report: Report) -> str:
        """Say HELLO until it answers; the state's deadline ends this.

        Its output cannot tell: into a pipe the banner is flushed with the first client only (ggml-rpc.cpp).
        """
        while True:
            result = await self._gate.refresh(PROBE_TIMEOUT_S)
            if result.state is ProbeState.OK:
                return f"answers HELLO, RPC protocol {result.version}"
            await asyncio.sleep(PROBE_PAUSE_S)

    async def watch(self, launch: Launch, child: Child) -> Fault:
        """Wait for ever: only its exit says that something is wrong, and that is noticed without us."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a future that nobody completes was completed")

    def classify(self, lines: Sequence[str], returncode: int) -> Diagnosis:
        """Say why it ended; from here on the gate turns everybody away."""
        self._gate.forget()
        self._has_died = True
        failure = loadlog.classify(lines, returncode)
        return Diagnosis(failure.value, failure.advice, failure.is_permanent)

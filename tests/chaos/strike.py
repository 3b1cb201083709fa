"""Do to a cluster what a fault says, and undo what would not pass by itself."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable

import httpx

from tests.chaos.census import look
from tests.chaos.cluster import Backend, Cluster
from tests.chaos.faults import Fault, FaultKind
from tests.chaos.load import LONG_PROMPT, Load, greedy

BLIP_S = 5.0
SLOW_MS, SLOW_S = 40, 3.0
REFUSED_S = 2.0
ABSENT_S = 1.0  # until something starts a killed backend again, as a container engine does
NOTICE_S = 60.0  # how long a fault that only silence tells may stay unnoticed
HANDED_OVER_TOKENS = 64  # APP_RESUME_REPLAY_TOKENS: from here on a stream is prefilled where that is possible
SOON_S = 10.0


class Striker:
    """Strike one cluster under load; ``struck_at`` is told to ``on_strike`` at the very moment."""

    def __init__(self, cluster: Cluster, load: Load, on_strike: Callable[[], None]) -> None:
        self._cluster = cluster
        self._load = load
        self._on_strike = on_strike
        self._victims: list[Backend] = []

    async def strike(self, fault: Fault) -> None:
        """Strike a backend that is in use; return when what was done is undone."""
        self._victims = await self._cluster.used()
        backend = self._victim(fault)
        match fault.kind:
            case FaultKind.TWO_AT_ONCE:
                one, other = fault.also
                await asyncio.gather(self._at(one, backend), self._at(other, self._other_than(backend)))
            case FaultKind.DURING_RECOVERY:
                await self._second(backend, lambda state: state != "ready")
            case FaultKind.DURING_LOAD:
                await self._second(backend, lambda state: state == "starting")
            case FaultKind.DURING_PREFILL:
                await self._during_prefill(fault, backend)
            case FaultKind.DURING_DECODE:
                await self._long_stream()
                self._kill_worker(backend)
            case _:
                await self._at(fault, backend)

    def _victim(self, fault: Fault) -> Backend:
        return self._victims[fault.backend % len(self._victims)]

    def _other_than(self, backend: Backend) -> Backend:
        """Return another backend: one in use if there is one."""
        return next(each for each in (*self._victims, *self._cluster.backends) if each is not backend)

    async def _at(self, fault: Fault, backend: Backend) -> None:
        """Do one thing at one place, now."""
        acts: dict[FaultKind, Callable[[Backend], Awaitable[None] | None]] = {
            FaultKind.KILL_SERVER: lambda _: self._kill_server(),
            FaultKind.KILL_WORKER: self._kill_worker,
            FaultKind.FREEZE_SERVER: lambda _: self._freeze(self._cluster.engine()),
            FaultKind.FREEZE_WORKER: lambda backend: self._freeze(backend.worker()),
            FaultKind.BLIP_WORKER: self._blip,
            FaultKind.SLOW_LINK: lambda backend: self._network(f"slow {SLOW_MS}", SLOW_S, backend.data_wire),
            FaultKind.HALF_OPEN: self._half_open,
            FaultKind.PORT_REFUSED: lambda backend: self._network("refuse", REFUSED_S, backend.data_wire),
            FaultKind.AGENT_SILENT: lambda backend: self._network("stall", BLIP_S, backend.agent_wire),
            FaultKind.WORKER_RESTARTED: self._restart_worker,
            FaultKind.KILL_AGENT: self._kill_agent,
        }
        done = acts[fault.kind](backend)
        if done is not None:
            await done

    def _kill_server(self) -> None:
        self._signal(self._cluster.engine(), signal.SIGKILL)

    def _kill_worker(self, backend: Backend) -> None:
        self._signal(backend.worker(), signal.SIGKILL)

    def _signal(self, pid: int | None, number: signal.Signals) -> None:
        self._on_strike()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _freeze(self, pid: int | None) -> None:
        """Freeze a process until the engine was fenced because of it; what is frozen for ever proves nothing more."""
        engine = self._cluster.engine()
        self._signal(pid, signal.SIGSTOP)
        noticed = await self._cluster.wait_until(lambda: self._cluster.engine() != engine, NOTICE_S)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        assert noticed, f"a frozen process was not noticed in {NOTICE_S:g} s: {await self._cluster.told()}"

    async def _blip(self, backend: Backend) -> None:
        pid = backend.worker()
        self._signal(pid, signal.SIGSTOP)
        await asyncio.sleep(BLIP_S)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def _network(self, mode: str, length_s: float, *ports: int) -> None:
        """Change some wires for a while."""
        self._on_strike()
        for port in ports:
            await self._cluster.network.set(port, mode)
        await asyncio.sleep(length_s)
        for port in ports:
            await self._cluster.network.set(port, "flow")

    async def _half_open(self, backend: Backend) -> None:
        """Let a machine vanish without a word until somebody has noticed."""
        engine = self._cluster.engine()
        self._on_strike()
        for port in (backend.data_wire, backend.agent_wire):
            await self._cluster.network.set(port, "stall")
        noticed = await self._cluster.wait_until(lambda: self._cluster.engine() != engine, NOTICE_S)
        for port in (backend.data_wire, backend.agent_wire):
            await self._cluster.network.set(port, "flow")
        assert noticed, f"a silent machine was not noticed in {NOTICE_S:g} s: {await self._cluster.told()}"

    async def _restart_worker(self, backend: Backend) -> None:
        self._on_strike()
        async with httpx.AsyncClient(trust_env=False, timeout=SOON_S) as http:
            (await http.post(f"{backend.agent_url}/restart")).raise_for_status()

    async def _kill_agent(self, backend: Backend) -> None:
        """Kill a backend's program alone: its worker must not outlive it."""
        worker = backend.worker()
        assert backend.program.process is not None
        self._on_strike()
        backend.program.process.kill()
        await backend.program.process.wait()
        gone = await self._cluster.wait_until(lambda: worker is None or look(worker) is None, SOON_S)
        assert gone, f"worker {worker} outlived its agent"
        await asyncio.sleep(ABSENT_S)
        await self._cluster.start_backend(backend)

    async def _second(self, backend: Backend, is_time: Callable[[str], bool]) -> None:
        """Kill llama-server, and a worker as soon as the recovery has come so far."""
        self._kill_server()
        was_away = False
        async with asyncio.timeout(SOON_S):
            while not is_time(state := await self._cluster.state()):
                if was_away and state == "ready":  # too quick for us: one failure is all it was
                    return
                was_away |= state != "ready"
        pid = backend.worker()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _during_prefill(self, fault: Fault, backend: Backend) -> None:
        """Kill a worker while a long prompt is read."""
        asked = greedy("/completion", LONG_PROMPT, 24, stream=True)
        reading = asyncio.create_task(self._load.one(asked))
        await asyncio.sleep(fault.pause_s / 5)
        self._kill_worker(backend)
        await reading

    async def _long_stream(self) -> None:
        """Wait until some stream has delivered so much that it will be prefilled."""
        async with asyncio.timeout(NOTICE_S):
            while not any(len(answer.token_at) > HANDED_OVER_TOKENS for answer in self._load.streams()):
                await self._load.next_sign()

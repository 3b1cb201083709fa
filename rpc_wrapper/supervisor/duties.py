"""The work that runs beside the states: each piece waits for one thing, returns the event it leads to, never raises."""

import asyncio
import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rpc_wrapper.errors import ConfigError, EngineError, GGUFError, RPCWrapperError
from rpc_wrapper.logs import redact
from rpc_wrapper.supervisor.actions import Work
from rpc_wrapper.supervisor.effects import Effects, FaultSeen, PermanentFailure, Report
from rpc_wrapper.supervisor.events import (
    BecameReady,
    Event,
    Exited,
    FaultFound,
    Prepared,
    PrepareFailed,
    ReadinessFailed,
    TimerFired,
)
from rpc_wrapper.supervisor.launch import Launch
from rpc_wrapper.supervisor.process import Child
from rpc_wrapper.supervisor.status import Diagnosis, Exit, Fault, FaultKind

_PERMANENT = (ConfigError, EngineError, GGUFError, PermanentFailure)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, so that tests can own them."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random


class Duties:
    """The work for one child, named in the log; ``prepare_error`` is what the last preparation failed with."""

    def __init__(self, name: str, effects: Effects, clock: Clock, report: Report) -> None:
        self.prepare_error: RPCWrapperError | None = None
        self._name = name
        self._effects = effects
        self._clock = clock
        self._report = report

    async def prepare(self) -> Event:
        """Ask what to start."""
        self.prepare_error = None
        try:
            return Prepared(await self._effects.prepare(self._report))
        except RPCWrapperError as error:
            self.prepare_error = error.error if isinstance(error, PermanentFailure) else error
            return PrepareFailed(str(error), isinstance(error, _PERMANENT))
        except Exception as error:
            return PrepareFailed(self._bug("preparing", error), permanent=False)

    def hear(self, launch: Launch, line: str) -> None:
        """Pass on a line of the child's log."""
        self._effects.hear(launch, line)

    async def await_ready(self, launch: Launch, child: Child) -> Event:
        """Wait for readiness."""
        try:
            readiness = await self._effects.await_ready(launch, child, self._report)
            return BecameReady(readiness.detail, readiness.load_s, readiness.first_token_s)
        except FaultSeen as error:
            return FaultFound(error.fault)
        except RPCWrapperError as error:
            return ReadinessFailed(str(error), isinstance(error, _PERMANENT))
        except Exception as error:
            return ReadinessFailed(self._bug("waiting for readiness", error), permanent=False)

    async def watch(self, launch: Launch, child: Child) -> Event:
        """Wait for a fault."""
        try:
            return FaultFound(await self._effects.watch(launch, child))
        except Exception as error:
            return FaultFound(Fault(FaultKind.INTERNAL, self._bug("watching", error)))

    async def await_exit(self, child: Child) -> Event:
        """Wait for the child's end."""
        returncode = await child.wait()
        lines = tuple(child.lines)
        try:
            diagnosis = self._effects.classify(lines, returncode)
        except Exception as error:
            diagnosis = Diagnosis(advice=self._bug("classifying an exit", error))
        if child.was_killed and returncode == -signal.SIGKILL:  # by us: there is nothing to find out
            diagnosis = Diagnosis()
        return Exited(Exit(returncode, diagnosis, tuple(redact(line) for line in lines)))

    async def fire(self, timer: Work, delay_s: float) -> Event:
        """Wait for a timer."""
        await self._clock.sleep(delay_s)
        return TimerFired(timer)

    def _bug(self, doing: str, error: Exception) -> str:
        _log.error("%s: a bug while %s", self._name, doing, exc_info=error)
        return f"internal error while {doing}: {type(error).__name__}: {error}"

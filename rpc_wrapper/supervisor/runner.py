"""Own one child: feed its life cycle with events, perform the actions, hold the work that runs beside it."""

import asyncio
import errno
import logging
import shlex
from collections import deque
from collections.abc import AsyncIterator, Coroutine

from rpc_wrapper.errors import NotReady, StartFailed
from rpc_wrapper.logs import redact, redact_argv
from rpc_wrapper.supervisor.actions import (
    OWNERS,
    Action,
    AwaitReady,
    KillGroup,
    Prepare,
    SetTimer,
    Spawn,
    Terminate,
    Watch,
    Work,
)
from rpc_wrapper.supervisor.board import Board
from rpc_wrapper.supervisor.duties import Clock, Duties
from rpc_wrapper.supervisor.effects import Effects
from rpc_wrapper.supervisor.events import (
    Event,
    Exited,
    FaultFound,
    KillRequested,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
)
from rpc_wrapper.supervisor.launch import Launch
from rpc_wrapper.supervisor.lifecycle import Lifecycle
from rpc_wrapper.supervisor.process import Child, spawn
from rpc_wrapper.supervisor.restart import RestartPolicy
from rpc_wrapper.supervisor.status import Exit, Fault, Snapshot, State

_PASSING_ERRNOS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
_log = logging.getLogger(__name__)


class Runner:
    """Keep one child running from ``run()`` until ``stop()``; call everything in the event loop of ``run()``.

    A child that must end gets SIGTERM once, and its group SIGKILL after a grace: ``stop_grace_s`` when it is to stop,
    ``fence_grace_s`` when another is to follow, for a blocked engine does not hear a SIGTERM.
    """

    def __init__(
        self,
        name: str,
        effects: Effects,
        policy: RestartPolicy | None = None,
        *,
        stop_grace_s: float = 3.0,
        fence_grace_s: float = 0.5,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self._clock = clock or Clock()
        self._life = Lifecycle(
            policy or RestartPolicy(),
            stop_grace_s=stop_grace_s,
            fence_grace_s=fence_grace_s,
            jitter=self._clock.jitter,
        )
        self._board = Board(name, self._life, self._clock)
        self._duties = Duties(name, effects, self._clock, self._board.report)
        self._inbox: deque[Event] = deque()
        self._work: dict[Work, asyncio.Task[Event]] = {}
        self._arrival = asyncio.Event()  # something is in the inbox, or some work has ended
        self._is_open = True  # before the first run and during each: requests are heard, and readiness may come

    # What everybody else may ask.

    async def run(self) -> None:
        """Keep the child running; return once it was asked to stop and is gone.

        Raises what ``Effects.prepare`` raised, or StartFailed, when it is given up before it was ever ready. Cancelled,
        it kills the child's group and waits for its end first. Once ended, it may be called again.
        """
        self._is_open = True
        self._inbox.appendleft(StartRequested())
        try:
            async with asyncio.TaskGroup() as group:
                await self._live(group)
        finally:
            await self._leave_nothing()
        if self._life.state is State.FAILED:
            raise self._duties.prepare_error or self._start_failed()

    def stop(self) -> None:
        """Ask for an orderly end; before the first ``run()`` it is remembered, after one it means nothing."""
        self._request(StopRequested())

    def kill(self) -> None:
        """Ask for an end at once, by SIGKILL."""
        self._request(KillRequested())

    def restart(self, reason: str) -> None:
        """Prepare anew and start again at once, the old child fenced first: a planned change, not a setback."""
        self._request(RestartRequested(reason))

    def report_fault(self, fault: Fault) -> None:
        """Tell of a fault seen from outside: the child is fenced, and started again after a backoff."""
        self._request(FaultFound(fault))

    def note(self, text: str) -> None:
        """Enter something worth knowing into the history; it changes nothing."""
        self._board.note(text)

    async def ensure_ready(self, timeout_s: float) -> Launch:
        """Return the launch of the ready child, waiting for it if need be.

        Raises NotReady with the state and its reason after ``timeout_s``, or as soon as waiting has become pointless.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self._life.state is not State.READY:
                    if self._life.state.is_final and not self._is_open:
                        raise self._not_ready()
                    await self._board.change()
        except TimeoutError:
            raise self._not_ready() from None
        assert self._life.launch is not None
        return self._life.launch

    def snapshot(self) -> Snapshot:
        """Return what is known now."""
        return self._board.snapshot()

    async def changed(self) -> None:
        """Wait for the next change of what is known."""
        await self._board.change()

    def subscribe(self) -> AsyncIterator[Snapshot]:
        """Yield what is known now and after each change, as ``Board.subscribe`` says."""
        return self._board.subscribe()

    # The loop: one event, its actions, the next event.

    async def _live(self, group: asyncio.TaskGroup) -> None:
        while True:
            event = await self._next_event()
            actions = self._life.handle(event, self._clock.monotonic())
            await self._end(*(work for work in self._work if self._life.state not in OWNERS[work]))
            for action in actions:
                await self._perform(action, group)
            self._board.publish(event)
            if self._life.state.is_final:
                return

    async def _next_event(self) -> Event:
        while True:
            if self._inbox:
                return self._inbox.popleft()
            for work in Work:
                if work in self._work and self._work[work].done():
                    return self._work.pop(work).result()
            self._arrival.clear()
            await self._arrival.wait()

    def _request(self, event: Event) -> None:
        if self._is_open:
            self._inbox.append(event)
            self._arrival.set()

    async def _perform(self, action: Action, group: asyncio.TaskGroup) -> None:
        match action:
            case Prepare():
                await self._begin(Work.PREPARE, self._duties.prepare(), group)
            case Spawn(launch):
                await self._spawn(launch, group)
            case AwaitReady(launch):
                await self._begin(Work.READINESS, self._duties.await_ready(launch, self._running), group)
            case Watch(launch):
                await self._begin(Work.WATCH, self._duties.watch(launch, self._running), group)
            case SetTimer(timer, delay_s):
                await self._begin(timer, self._duties.fire(timer, delay_s), group)
            case Terminate():
                self._running.terminate()
            case KillGroup():
                self._running.kill_group()

    @property
    def _running(self) -> Child:
        assert self._board.child is not None, "the life cycle asks this only between Spawned and Exited"
        return self._board.child

    async def _begin(self, work: Work, coroutine: Coroutine[None, None, Event], group: asyncio.TaskGroup) -> None:
        await self._end(work)
        self._work[work] = group.create_task(coroutine, name=f"{self.name}: {work}")
        self._work[work].add_done_callback(lambda _: self._arrival.set())

    async def _end(self, *works: Work) -> None:
        """Cancel work and wait until it has let go; what it would have said is never heard."""
        tasks = [self._work.pop(work) for work in works if work in self._work]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _leave_nothing(self) -> None:
        """Come to rest after the loop, however it ended: cancelled, there may be a child left."""
        self._is_open = False
        self._inbox.clear()
        self._work.clear()
        if not self._life.state.is_final:
            for event in (KillRequested(), await self._kill_child()):
                self._life.handle(event, self._clock.monotonic())
                self._board.publish(event)
        self._board.ring()

    async def _kill_child(self) -> Event:
        child = self._board.child
        if child is None:
            return SpawnFailed("cancelled", permanent=False)
        child.kill_group()
        return Exited(Exit(await child.wait()))

    async def _spawn(self, launch: Launch, group: asyncio.TaskGroup) -> None:
        """Spawn at once and answer before anything else is heard: nobody can signal a child that has no pid."""
        _log.info("%s starts: %s", self.name, shlex.join(redact_argv(launch.argv)))
        try:
            child = await spawn(launch, lambda line: self._duties.hear(launch, line))
        except OSError as error:
            text = f"cannot start {launch.argv[0]}: {error.strerror or error}"
            self._inbox.appendleft(SpawnFailed(text, error.errno not in _PASSING_ERRNOS))
            return
        self._board.child = child
        self._inbox.appendleft(Spawned(child.pid))
        await self._begin(Work.CHILD, self._duties.await_exit(child), group)

    # Words for errors.

    def _not_ready(self) -> NotReady:
        return NotReady(f"{self.name} is {self._life.state}: {redact(self._life.reason)}")

    def _start_failed(self) -> StartFailed:
        last = self._board.last_exit
        return StartFailed(
            f"{self.name} did not start: {redact(self._life.reason)}",
            reason=last.diagnosis.failure if last else "unknown",
            returncode=last.returncode if last else None,
            last_lines=last.last_lines if last else (),
        )

"""The runner with real children: it starts, heals, gives up, stops, and leaves nothing."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from rpc_wrapper.errors import ConfigError, NotReady, RPCWrapperError, StartFailed
from rpc_wrapper.supervisor import (
    Child,
    Clock,
    Diagnosis,
    Fault,
    FaultKind,
    FaultSeen,
    Launch,
    PermanentFailure,
    Readiness,
    RestartPolicy,
    Runner,
    Snapshot,
    State,
)
from tests.supervisor.conftest import marked

Launcher = Callable[..., Launch]
QUICK = RestartPolicy(initial_s=0.01, max_s=0.02, breaker_failures=3, cooldown_s=0.02)
SILENCE = Fault(FaultKind.SILENCE, "no token for 9 s", backend="b:1", phase="decode", detected_after_s=9)
UP = ("--ready-line", "up")


class FakeEffects:
    """Prepare the launches given one by one (the last again and again), and be ready when the child prints 'up'."""

    def __init__(self, *launches: Launch | Exception) -> None:
        self.launches = list(launches)
        self.prepared = 0
        self.fault: asyncio.Future[Fault] = asyncio.get_running_loop().create_future()
        self.up = asyncio.Event()
        self.diagnosis = Diagnosis()

    async def prepare(self, report: Callable[[str], None]) -> Launch:
        report(f"preparing {self.prepared}")
        launch = self.launches[min(self.prepared, len(self.launches) - 1)]
        self.prepared += 1
        self.up.clear()
        if isinstance(launch, Exception):
            raise launch
        return launch

    async def await_ready(self, launch: Launch, child: Child, report: Callable[[str], None]) -> Readiness:
        await self.up.wait()
        return Readiness("it says so", load_s=0.2, first_token_s=0.1)

    async def watch(self, launch: Launch, child: Child) -> Fault:
        return await asyncio.shield(self.fault)

    def hear(self, launch: Launch, line: str) -> None:
        if line == "up":
            self.up.set()

    def classify(self, lines: Sequence[str], returncode: int) -> Diagnosis:
        return self.diagnosis


class HangingEffects(FakeEffects):
    """Never done with preparing."""

    async def prepare(self, report: Callable[[str], None]) -> Launch:
        report("waiting for backend b:1")
        await asyncio.Event().wait()
        raise AssertionError


@contextlib.asynccontextmanager
async def running(
    effects: FakeEffects, policy: RestartPolicy = QUICK, clock: Clock | None = None
) -> AsyncIterator[Runner]:
    """Run a runner beside the test; at the end stop it and insist that it ends well."""
    runner = Runner("fake", effects, policy, stop_grace_s=10, fence_grace_s=0.2, clock=clock)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(runner.run())
        yield runner
        runner.stop()


async def until(runner: Runner, is_so: Callable[[Snapshot], bool]) -> Snapshot:
    async for snapshot in runner.subscribe():
        if is_so(snapshot):
            return snapshot
    raise AssertionError


def states(snapshot: Snapshot) -> list[str]:
    return [occurrence.kind for occurrence in snapshot.history]


async def test_from_start_to_stop(launch: Launcher) -> None:
    plan = launch(*UP)
    async with running(FakeEffects(plan)) as runner:
        assert await runner.ensure_ready(30) is plan
        now = runner.snapshot()
        assert (now.state, now.reason, now.generation, now.ever_ready) == (State.READY, "it says so", 1, True)
        assert now.argv == plan.argv
        assert now.last_lines == ("up",)
    end = runner.snapshot()
    assert states(end) == ["preparing", "starting", "ready", "stopping", "stopped"]
    assert (end.pid, end.last_exit and end.last_exit.returncode) == (None, 0)
    assert [occurrence.number for occurrence in end.history] == list(range(5))


@pytest.mark.parametrize("code", [0, 1])
async def test_an_exit_of_a_ready_child_is_healed(launch: Launcher, code: int) -> None:
    effects = FakeEffects(launch(*UP, "--exit-after", "0.1", "--exit-code", str(code)), launch(*UP))
    async with running(effects) as runner:
        await runner.ensure_ready(30)
        await until(runner, lambda now: now.restarts == 1 and now.state is State.READY)
        assert f"exit code {code}" in " ".join(occurrence.text for occurrence in runner.snapshot().history)


async def test_kill_9_is_healed_with_another_process(launch: Launcher, mark: str) -> None:
    async with running(FakeEffects(launch(*UP))) as runner:
        await runner.ensure_ready(30)
        first = runner.snapshot().pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        now = await until(runner, lambda now: now.generation == 2 and now.state is State.READY)
        assert [process.pid for process in marked(mark)] == [now.pid] != [first]


async def test_a_stopped_and_deaf_child_is_fenced_by_sigkill(launch: Launcher) -> None:
    effects = FakeEffects(launch(*UP, "--ignore-sigterm", "--fork-grandchild"), launch(*UP))
    async with running(effects) as runner:
        await runner.ensure_ready(30)
        pid = runner.snapshot().pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        effects.fault.set_result(SILENCE)
        fencing = await until(runner, lambda now: now.state is State.FENCING)
        assert fencing.history[-1].fault == SILENCE
        effects.fault = asyncio.get_running_loop().create_future()
        after = await until(runner, lambda now: now.generation == 2)
        assert after.last_exit is not None
        assert after.last_exit.returncode == -signal.SIGKILL


async def test_a_reported_fault_is_fenced_too(launch: Launcher) -> None:
    async with running(FakeEffects(launch(*UP))) as runner:
        await runner.ensure_ready(30)
        runner.report_fault(SILENCE)
        await until(runner, lambda now: now.generation == 2 and now.state is State.READY)


async def test_a_restart_prepares_anew(launch: Launcher) -> None:
    first, second = launch(*UP), launch(*UP)
    async with running(FakeEffects(first, second), RestartPolicy(initial_s=30)) as runner:
        assert await runner.ensure_ready(30) is first
        runner.restart("replan")
        await until(runner, lambda now: now.state is State.FENCING)
        assert await runner.ensure_ready(30) is second


async def test_a_child_that_never_starts_is_given_up_with_its_last_words(launch: Launcher) -> None:
    effects = FakeEffects(launch("--print-lines", "3", "--exit-after", "0", "--exit-code", "4"))
    effects.diagnosis = Diagnosis("out_of_memory", "lend more")
    runner = Runner("fake", effects, QUICK)
    with pytest.raises(
        StartFailed, match=r"fake did not start: gave up after 3 attempts: exit code 4 .*lend more"
    ) as failed:
        await runner.run()
    assert (failed.value.reason, failed.value.returncode) == ("out_of_memory", 4)
    assert failed.value.last_lines == ("line 0", "line 1", "line 2")
    assert runner.snapshot().state is State.FAILED


async def test_a_permanent_failure_is_tried_once(launch: Launcher) -> None:
    effects = FakeEffects(launch("--exit-after", "0"))
    effects.diagnosis = Diagnosis("bad_model", "fetch it again", permanent=True)
    with pytest.raises(StartFailed, match="fetch it again"):
        await Runner("fake", effects, QUICK).run()
    assert effects.prepared == 1


@pytest.mark.parametrize("error", [ConfigError("APP_X is 3"), PermanentFailure(NotReady("nobody there"))])
async def test_an_error_of_preparing_comes_out_as_itself(error: RPCWrapperError) -> None:
    effects = FakeEffects(error)
    wanted = error.error if isinstance(error, PermanentFailure) else error
    with pytest.raises(type(wanted)) as raised:
        await Runner("fake", effects, QUICK).run()
    assert (raised.value, effects.prepared) == (wanted, 1)


async def test_a_passing_error_of_preparing_is_tried_again(launch: Launcher) -> None:
    async with running(FakeEffects(NotReady("not yet"), KeyError("a bug"), launch(*UP))) as runner:
        await runner.ensure_ready(30)
        texts = " ".join(occurrence.text for occurrence in runner.snapshot().history)
        assert "not yet" in texts
        assert "internal error while preparing: KeyError" in texts


async def test_a_missing_program_is_named_and_not_tried_twice(environ: dict[str, str]) -> None:
    effects = FakeEffects(Launch(("/no/such/engine",), environ))
    with pytest.raises(StartFailed, match="cannot start /no/such/engine: No such file") as failed:
        await Runner("fake", effects, QUICK).run()
    assert (effects.prepared, failed.value.returncode) == (1, None)


async def test_readiness_has_a_deadline(launch: Launcher) -> None:
    async with running(FakeEffects(launch(ready_deadline_s=0.05), launch(*UP))) as runner:
        await runner.ensure_ready(30)
        assert "not ready within 0.05 s" in " ".join(o.text for o in runner.snapshot().history)


async def test_cancelling_run_kills_and_reaps(launch: Launcher, mark: str) -> None:
    runner = Runner("fake", FakeEffects(launch(*UP, "--ignore-sigterm", "--fork-grandchild")), QUICK)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run())
        await runner.ensure_ready(30)
        assert len(marked(mark)) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert marked(mark) == []
    assert runner.snapshot().state is State.STOPPED


async def test_kill_does_not_wait_for_a_deaf_child(launch: Launcher) -> None:
    runner = Runner("fake", FakeEffects(launch(*UP, "--ignore-sigterm")), QUICK, stop_grace_s=3600)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(runner.run())
        await runner.ensure_ready(30)
        runner.stop()
        await until(runner, lambda now: now.state is State.STOPPING)
        runner.kill()


async def test_stop_ends_a_preparation_that_hangs() -> None:
    async with running(HangingEffects()) as runner:
        now = await until(runner, lambda now: bool(now.progress))
        assert (now.state, now.progress) == (State.PREPARING, "waiting for backend b:1")


async def test_a_stop_before_the_first_run_is_remembered(launch: Launcher) -> None:
    effects = FakeEffects(launch(*UP))
    runner = Runner("fake", effects, QUICK)
    runner.stop()
    await runner.run()
    assert states(runner.snapshot()) == ["preparing", "stopped"]


async def test_it_can_run_again_after_it_ended(launch: Launcher) -> None:
    runner = Runner("fake", FakeEffects(launch(*UP)), QUICK)
    for generation in (1, 2):
        async with asyncio.TaskGroup() as group:
            group.create_task(runner.run())
            await until(runner, lambda now: now.state is State.READY)
            assert runner.snapshot().generation == generation
            runner.stop()
        runner.stop()  # means nothing now, and must not end the next run


async def test_not_ready_says_why_after_the_time_given() -> None:
    async with running(HangingEffects()) as runner:
        with pytest.raises(NotReady, match="fake is preparing: start requested"):
            await runner.ensure_ready(0.05)


async def test_every_waiter_is_woken_when_there_is_nothing_to_wait_for() -> None:
    runner = Runner("fake", HangingEffects(), QUICK)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        waiters = [group.create_task(refused(runner)) for _ in range(5)]
        group.create_task(runner.run())
        await until(runner, lambda now: now.state is State.PREPARING)
        runner.stop()
    assert {waiter.result() for waiter in waiters} == {"fake is stopped: stop requested"}
    with pytest.raises(NotReady):
        await runner.ensure_ready(30)


async def refused(runner: Runner) -> str:
    with pytest.raises(NotReady) as refusal:
        await runner.ensure_ready(3600)
    return str(refusal.value)


async def test_waiters_wait_through_a_recovery(launch: Launcher) -> None:
    async with running(FakeEffects(launch(*UP))) as runner:
        await runner.ensure_ready(30)
        runner.report_fault(SILENCE)
        await until(runner, lambda now: now.state is State.FENCING)
        await runner.ensure_ready(30)
        assert runner.snapshot().generation == 2


async def test_a_slow_reader_gets_the_newest(launch: Launcher) -> None:
    async with running(FakeEffects(launch(*UP))) as runner:
        reader = runner.subscribe()
        assert (await anext(reader)).state is State.STOPPED
        await runner.ensure_ready(30)
        assert (await anext(reader)).state is State.READY


async def test_backoff_asks_the_clock_for_its_pauses(launch: Launcher) -> None:
    pauses: list[float] = []

    async def sleep(delay_s: float) -> None:
        pauses.append(delay_s)
        await asyncio.sleep(0 if delay_s in (1, 2, 4) else 3600)

    policy = RestartPolicy(initial_s=1, factor=2, max_s=9, jitter=0, breaker_failures=4)
    effects = FakeEffects(launch("--exit-after", "0"))
    with pytest.raises(StartFailed):
        await Runner("fake", effects, policy, clock=Clock(sleep=sleep)).run()
    assert [pause for pause in pauses if pause < 30] == [1, 2, 4]


async def test_no_secret_is_published(launch: Launcher, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    plan = launch(*UP)
    secret = Launch((*plan.argv, "--api-key", "sesame"), plan.environ)
    runner = Runner("fake", FakeEffects(secret), QUICK)
    with pytest.raises(StartFailed) as failed:  # the fake child refuses the flag, and repeats it in its usage
        await runner.run()
    assert "unrecognized arguments: --api-key ***" in " ".join(failed.value.last_lines)
    assert "sesame" not in f"{runner.snapshot().to_json()} {failed.value} {failed.value.last_lines} {caplog.text}"


async def test_what_we_killed_ourselves_is_not_diagnosed(launch: Launcher) -> None:
    effects = FakeEffects(launch(*UP, "--ignore-sigterm"))
    effects.diagnosis = Diagnosis("out_of_memory", "lend more")
    async with running(effects) as runner:
        await runner.ensure_ready(30)
        runner.kill()
        end = await until(runner, lambda now: now.state is State.STOPPED)
        assert end.last_exit is not None
        assert str(end.last_exit) == "killed by SIGKILL"


async def test_a_recovery_is_timed_in_the_history(launch: Launcher) -> None:
    async with running(FakeEffects(launch(*UP))) as runner:
        await runner.ensure_ready(30)
        runner.note("somebody was seen to limp")
        runner.report_fault(SILENCE)
        end = await until(runner, lambda now: now.restarts == 1 and now.state is State.READY)
    noted = next(entry for entry in end.history if entry.kind == "note")
    fault = next(entry for entry in end.history if entry.fault)
    back = next(entry for entry in end.history if entry.recovery)
    assert noted.text == "somebody was seen to limp"
    assert fault.fault == SILENCE
    recovery = back.recovery
    assert recovery is not None
    assert (back.kind, recovery.cause, recovery.backend, recovery.attempts) == ("ready", "silence", "b:1", 1)
    assert (recovery.detected_after_s, recovery.load_s, recovery.first_token_s) == (9, 0.2, 0.1)
    assert 0 < recovery.fence_s + recovery.wait_s < recovery.total_s


async def test_an_exit_nobody_asked_for_is_a_fault_in_the_history(launch: Launcher) -> None:
    effects = FakeEffects(launch(*UP, "--exit-after", "0.1", "--exit-code", "1"), launch(*UP))
    effects.diagnosis = Diagnosis("backend_lost", "b:1 was lost", backend="b:1")
    async with running(effects) as runner:
        await runner.ensure_ready(30)
        end = await until(runner, lambda now: now.restarts == 1 and now.state is State.READY)
    faults = [entry.fault for entry in end.history if entry.fault]
    assert [(fault.kind, fault.backend, fault.detected_after_s) for fault in faults] == [(FaultKind.EXIT, "b:1", 0.0)]


async def test_a_fault_seen_on_the_way_up_is_fenced_and_told(launch: Launcher) -> None:
    class SeesAFault(FakeEffects):
        async def await_ready(self, launch: Launch, child: Child, report: Callable[[str], None]) -> Readiness:
            if self.prepared == 1:
                raise FaultSeen(SILENCE)
            return await super().await_ready(launch, child, report)

    async with running(SeesAFault(launch(*UP))) as runner:
        await runner.ensure_ready(30)
        now = runner.snapshot()
    assert states(now) == ["preparing", "starting", "fencing", "backoff", "preparing", "starting", "ready"]
    assert now.history[2].fault == SILENCE

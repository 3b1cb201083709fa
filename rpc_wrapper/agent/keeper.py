"""Run a worker for as long as the service lives, and stop and start it in between when somebody asks."""

import asyncio

from rpc_wrapper.supervisor import Runner, State


class Keeper:
    """A runner that may be stopped without ending the service; ``run``, ``stop`` and ``kill`` are the service's."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._is_ending = False

    async def run(self) -> None:
        """Keep the worker running whenever it is wanted; return when the service ends."""
        while not self._is_ending:
            await self.runner.run()
            await self._wanted.wait()

    def stop(self) -> None:
        """End the service in order."""
        self._end()
        self.runner.stop()

    def kill(self) -> None:
        """End the service at once."""
        self._end()
        self.runner.kill()

    def _end(self) -> None:
        self._is_ending = True
        self._wanted.set()

    async def start_worker(self) -> str:
        """Start the worker if it was stopped; return what was done."""
        if self._wanted.is_set():
            return "already_running"
        self._wanted.set()
        return "started"

    async def stop_worker(self) -> str:
        """Stop the worker and wait for its end; return what was done."""
        if not self._wanted.is_set():
            return "not_running"
        self._wanted.clear()
        self.runner.stop()
        async for snapshot in self.runner.subscribe():
            if snapshot.state is State.STOPPED:
                break
        return "stopped"

    async def restart_worker(self) -> str:
        """Stop the worker and start it again; return what was done."""
        await self.stop_worker()
        await self.start_worker()
        return "restarted"

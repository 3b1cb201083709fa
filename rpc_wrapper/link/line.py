"""One direction between a session and its backend: straight, or over a simulated network."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from rpc_wrapper.link.delay import DelayLine
from rpc_wrapper.link.end import Chunk, End

MAX_BACKLOG_S = 0.05  # of bytes that wait for bandwidth, before their source has to wait
# A loop's timers are good to a millisecond either way (libuv counts in whole ones): the last bit is waited for awake,
# so that a simulated network is as slow as it says and no slower.
TIMER_S = 0.002


class Line:
    """Deliver what is sent, in order; ``source`` stops reading while a bandwidth limit is behind."""

    def __init__(
        self,
        delay: DelayLine | None,
        source: End,
        deliver: Callable[[Sequence[Chunk]], None],
        finish: Callable[[], None],
    ) -> None:
        self._delay = delay
        self._source = source
        self._deliver = deliver
        self._finish = finish
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[tuple[float, Chunk | None]] = deque()  # None is the end of the stream
        self._timer: asyncio.Handle | None = None
        self._brake: asyncio.TimerHandle | None = None

    def send(self, chunks: Sequence[Chunk]) -> None:
        """Send bytes."""
        if self._delay is None:
            self._deliver(chunks)
            return
        now = monotonic()
        for chunk in chunks:
            self._under_way.append((self._delay.send(chunk, now), chunk))
        backlog_s = self._delay.backlog_s(now)
        if backlog_s > MAX_BACKLOG_S and self._brake is None:
            self._source.brake()
            self._brake = self._loop.call_later(backlog_s, self._read_on)
        self._schedule()

    def end(self) -> None:
        """End the stream, behind everything that is under way."""
        if self._under_way:
            self._under_way.append((self._under_way[-1][0], None))
        else:
            self._finish()

    def close(self) -> None:
        """Forget what is under way."""
        self._under_way.clear()
        for timer in (self._timer, self._brake):
            if timer is not None:
                timer.cancel()

    def _read_on(self) -> None:
        self._brake = None
        self._source.unbrake()

    def _schedule(self) -> None:
        if self._timer is not None or self._delay is None or not self._under_way:
            return
        now = monotonic()
        left_s = self._under_way[0][0] - now
        # While bytes wait for bandwidth, that alone tells how long all of them take: a late piece costs nothing.
        awake_s = 0.0 if self._delay.backlog_s(now) > 0 else TIMER_S
        if left_s > awake_s:
            self._timer = self._loop.call_later(left_s - awake_s, self._arrive)
        else:
            self._timer = self._loop.call_soon(self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        now = monotonic()
        arrived: list[Chunk] = []
        while self._under_way and self._under_way[0][0] <= now:
            _, chunk = self._under_way.popleft()
            if chunk is not None:
                arrived.append(chunk)
                continue
            self._deliver(arrived)
            self._finish()
            return
        if arrived:
            self._deliver(arrived)
        self._schedule()

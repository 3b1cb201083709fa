"""One request on its way through as many engines as it takes: the asyncio around the rules of this package."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from rpc_wrapper.errors import NotReady
from rpc_wrapper.gateway import headers
from rpc_wrapper.gateway.errors import EngineLost
from rpc_wrapper.gateway.exchange import EngineAnswer, EngineRequest, Exchange
from rpc_wrapper.gateway.journal import method, sse
from rpc_wrapper.gateway.journal.config import ResumeConfig
from rpc_wrapper.gateway.journal.ending import Ended, Phase, ended
from rpc_wrapper.gateway.journal.entry import Entry, Journal
from rpc_wrapper.gateway.journal.feed import Feed
from rpc_wrapper.gateway.journal.merge import Difference, Replayed, Whole
from rpc_wrapper.gateway.journal.method import Method
from rpc_wrapper.gateway.journal.prompt import tokenized
from rpc_wrapper.gateway.journal.reading import Dialect
from rpc_wrapper.gateway.journal.vigil import Vigil
from rpc_wrapper.gateway.upstream import Target, Upstream
from rpc_wrapper.logs import fields

log = logging.getLogger(__name__)

KEEPALIVE = sse.comment("waiting for the engine")


@dataclass(frozen=True, slots=True)
class Means:
    """What every run works with."""

    direct: Exchange
    upstream: Upstream
    config: ResumeConfig
    journal: Journal
    vigil: Vigil


class Run:
    """Answer one request; use it as a context, so that whatever it holds upstream is let go at its end."""

    def __init__(self, means: Means, entry: Entry, request: EngineRequest) -> None:
        self._means = means
        self._entry = entry
        self._request = replace(request, body=entry.asked.body)
        self._held = AsyncExitStack()
        self._resuming: asyncio.Task[AsyncIterator[bytes]] | None = None
        self._target: Target | None = None
        self._lost_at: float | None = None
        self._phase = Phase.PREFILL

    async def __aenter__(self) -> "Run":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_resuming()
        await self._let_go()

    async def answer(self) -> EngineAnswer:
        """Return the engine's answer: a stream as it comes, anything else as soon as all of it is there."""
        answer = await self._first()
        while not _is_stream(answer):
            try:
                return self._with_count(answer, await _body(answer))
            except EngineLost as loss:
                await self._recover(loss)
                answer = await self._first()
        return replace(answer, chunks=self._stream(answer))

    async def _first(self) -> EngineAnswer:
        """Return the answer of the first engine that lives long enough to begin one."""
        while True:
            try:
                return await self._ask(self._request)
            except EngineLost as loss:
                await self._recover(loss)

    def _with_count(self, answer: EngineAnswer, body: bytes) -> EngineAnswer:
        if not self._entry.losses:
            return replace(answer, chunks=_once(body))
        self._means.journal.resumed_total += 1
        self._request.visit.resumed = self._entry.losses
        count = (b"x-resumed", str(self._entry.losses).encode())
        return EngineAnswer(answer.status, [*answer.headers, count], _once(body))

    # A stream, and how it goes on when it is cut.

    async def _stream(self, answer: EngineAnswer) -> AsyncIterator[bytes]:
        relay = self._relay(Feed(self._means.journal, self._entry), answer)
        while True:
            try:
                async for data in relay:
                    yield data
                return
            except EngineLost as loss:
                if self._entry.is_complete:
                    return
                # kept in self, and cancelled when the client leaves
                task = self._resuming = asyncio.create_task(self._resume(loss))  # noqa: TID251
            while not (await asyncio.wait({task}, timeout=self._means.config.keepalive_s))[0]:
                yield KEEPALIVE
            relay = task.result()
            yield sse.comment(f"resumed {self._entry.resumed}")

    async def _relay(self, feed: Feed, answer: EngineAnswer, begun: bytes = b"") -> AsyncIterator[bytes]:
        """Pass a stream on through ``feed``; raise EngineLost when it ends without its last event."""
        if begun:
            yield begun
        try:
            async for chunk in answer.chunks:
                data = self._fed(feed, chunk)
                if data:
                    yield data
        except Difference as difference:  # of one completion, while another has already gone on
            raise self._ended(str(difference)) from difference
        if not self._entry.is_complete and self._entry.asked.dialect is not Dialect.OTHER:
            raise EngineLost("The engine ended its stream before the last event.", answered=True)
        if feed.rest():
            yield feed.rest()

    def _fed(self, feed: Feed, chunk: bytes) -> bytes:
        now = asyncio.get_running_loop().time()
        data, signs = feed.feed(chunk, now)
        self._means.vigil.note(self._entry, signs)
        if signs.n_tokens:
            self._phase = Phase.DECODE
        return data

    async def _resume(self, loss: EngineLost) -> AsyncIterator[bytes]:
        """Return the rest of the stream as soon as it says something new; raise Ended."""
        while True:
            await self._recover(loss)
            try:
                return await self._reopen()
            except EngineLost as again:
                loss = again

    async def _reopen(self) -> AsyncIterator[bytes]:
        """Go on with the stream in the best way that is open."""
        while True:
            choice = method.choose(self._entry, self._means.config.replay_tokens)
            if choice.method is Method.END:
                raise self._ended(choice.reason)
            try:
                return await self._continued(choice.method)
            except Difference as difference:
                self._entry.refusals[choice.method] = str(difference)
                await self._let_go()

    async def _continued(self, way: Method) -> AsyncIterator[bytes]:
        """Return the rest of the stream; raise EngineLost, or Difference when it cannot be had in this way."""
        request, feed = await self._prefill() if way is Method.PREFILL else self._replay()
        answer = await self._ask(request)
        if not _is_stream(answer):
            raise Difference(f"the engine refused its {way} with {answer.status}")
        begun = await self._news(feed, answer)
        self._entry.resumed += 1
        self._means.journal.resumed_total += 1
        self._request.visit.resumed = self._entry.resumed
        self._lost_at = None
        self._tell(logging.INFO, f"goes on by {way}")
        return self._relay(feed, answer, begun)

    async def _prefill(self) -> tuple[EngineRequest, Feed]:
        entry, delivered = self._entry, self._entry.delivered
        assert entry.asked.value is not None
        prompt = await tokenized(self._means.direct, self._request, entry.asked.value["prompt"])
        ids = delivered.shown_ids
        body = method.prefill_body(entry.asked, prompt.ids, ids)
        whole = Whole(entry.resumed + 1, delivered.created, len(ids), prompt.text, delivered.decode_s)
        again = delivered.forget_held_back()
        return replace(self._request, body=body), Feed(self._means.journal, entry, whole, again=again)

    def _replay(self) -> tuple[EngineRequest, Feed]:
        whole = Whole(self._entry.resumed + 1, self._entry.delivered.created)
        return self._request, Feed(self._means.journal, self._entry, whole, Replayed(self._entry.delivered))

    async def _news(self, feed: Feed, answer: EngineAnswer) -> bytes:
        async for chunk in answer.chunks:
            data = self._fed(feed, chunk)
            if data:
                return data
        if not self._entry.is_complete:
            raise EngineLost("The engine ended its stream before it said anything new.", answered=True)
        return b""

    # The engine, and waiting for the next one.

    async def _ask(self, request: EngineRequest) -> EngineAnswer:
        try:
            self._target = await self._means.upstream.ensure_ready(request.ready_wait_s)
            self._phase = Phase.PREFILL
            self._means.vigil.begin(self._entry)
            return await self._held.enter_async_context(self._means.direct(request))
        except NotReady as error:
            if not self._entry.losses:
                raise
            raise self._ended(str(error)) from error

    async def _let_go(self) -> None:
        self._means.vigil.end(self._entry)
        await self._held.aclose()

    async def _stop_resuming(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.gather(self._resuming, return_exceptions=True)

    async def _recover(self, loss: EngineLost) -> None:
        """Wait until an engine is ready again; raise Ended when that takes too long or happens too often."""
        entry, config = self._entry, self._means.config
        await self._let_go()
        clock = asyncio.get_running_loop().time
        self._lost_at = self._lost_at or clock()
        give_up_at = self._lost_at + config.wait_s
        self._tell(logging.INFO, f"lost its engine: {loss}")
        entry.losses += 1
        entry.attempts += 1
        if entry.attempts > config.attempts:
            raise self._ended(str(loss))
        self._phase = Phase.LOAD
        try:
            await self._next_engine(give_up_at)
        except NotReady as error:
            raise self._ended(str(error)) from error

    async def _next_engine(self, give_up_at: float) -> None:
        """Wait for an engine that is ready; it may be the lost one, if it was a connection only that was cut."""
        clock = asyncio.get_running_loop().time
        if self._target is not None:
            await self._means.upstream.lost(self._target)
        await self._means.upstream.ensure_ready(max(0.0, give_up_at - clock()))

    def _ended(self, reason: str) -> Ended:
        self._means.journal.ended_total += 1
        self._tell(logging.WARNING, f"cannot go on: {reason}")
        return ended(self._entry, self._phase, reason, self._means.upstream.progress())

    def _tell(self, level: int, what: str) -> None:
        entry, n_tokens = self._entry, self._entry.delivered.n_tokens
        given = fields(request_id=entry.request_id, phase=self._phase.value, delivered_tokens=n_tokens)
        log.log(level, "request %s, %d tokens delivered, %s", entry.request_id, n_tokens, what, extra=given)


def _is_stream(answer: EngineAnswer) -> bool:
    return answer.status == 200 and headers.is_event_stream(answer.headers)


async def _body(answer: EngineAnswer) -> bytes:
    return b"".join([chunk async for chunk in answer.chunks])


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body

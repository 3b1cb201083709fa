"""The timer around the watchdog."""

import asyncio
from collections.abc import Callable

from rpc_wrapper.gateway.journal import Silence, Vigil, WatchConfig
from rpc_wrapper.gateway.journal.entry import Asked, Entry
from rpc_wrapper.gateway.journal.feed import Signs
from rpc_wrapper.gateway.journal.reading import Dialect
from rpc_wrapper.gateway.journal.vigil import OnSilence
from tests.gateway.serve import DEADLINE_S

SHORT = WatchConfig(prefill_floor_s=0.02, decode_floor_s=0.02, slack=0.0)
LONG = WatchConfig(prefill_floor_s=1000.0, decode_floor_s=1000.0)


def entry_of(request_id: str, *, stream: bool = True) -> Entry:
    return Entry(request_id, Asked(Dialect.NATIVE, b"", {"stream": stream}))


async def heard(vigil_of: Callable[[OnSilence], Vigil], *entries: Entry) -> Silence:
    found: asyncio.Queue[Silence] = asyncio.Queue()
    vigil = vigil_of(found.put_nowait)
    for entry in entries:
        vigil.begin(entry)
    async with asyncio.timeout(DEADLINE_S):
        return await found.get()


async def test_silence_is_told():
    silence = await heard(lambda tell: Vigil(SHORT, tell), entry_of("r1"))
    assert silence.request_id == "r1"
    assert silence.waited_s >= silence.deadline_s == 0.02


async def test_what_is_not_streamed_cannot_be_silent():
    silence = await heard(lambda tell: Vigil(SHORT, tell), entry_of("whole", stream=False), entry_of("r2"))
    assert silence.request_id == "r2"


async def test_silence_after_a_token_is_told_again():
    told: asyncio.Queue[Silence] = asyncio.Queue()
    vigil = Vigil(SHORT, told.put_nowait)
    entry = entry_of("r1")
    vigil.begin(entry)
    async with asyncio.timeout(DEADLINE_S):
        assert (await told.get()).phase == "prefill"
        vigil.note(entry, Signs(progress=(1, 2)))
        vigil.note(entry, Signs(n_tokens=1))
        assert (await told.get()).phase == "decode"


async def test_nobody_needs_to_listen(caplog):
    vigil = Vigil(SHORT)
    entry = entry_of("r1")
    vigil.begin(entry)
    async with asyncio.timeout(DEADLINE_S):
        while "silent" not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.01)


async def test_an_end_is_no_silence():
    told: list[Silence] = []
    vigil = Vigil(LONG, told.append)
    entry = entry_of("r1")
    vigil.begin(entry)
    vigil.end(entry)
    assert vigil.due_at() is None

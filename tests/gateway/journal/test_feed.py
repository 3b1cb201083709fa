"""The pure heart: streams that are cut anywhere, in any pieces, any number of times, and what the client gets."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc_wrapper.gateway.journal import ResumeConfig, method
from rpc_wrapper.gateway.journal.entry import Entry, Journal
from rpc_wrapper.gateway.journal.feed import Feed, without_verbose
from rpc_wrapper.gateway.journal.merge import Difference, Replayed, Whole
from rpc_wrapper.gateway.journal.method import Method
from rpc_wrapper.gateway.journal.reading import Dialect, Nature, read
from rpc_wrapper.gateway.journal.sse import Splitter
from tests.gateway.journal import engine

ASKED: dict[Dialect, dict[str, Any]] = {
    Dialect.NATIVE: {"prompt": "Once upon a", "n_predict": 30},
    Dialect.TEXT: {"prompt": "Once upon a", "max_tokens": 30},
    Dialect.CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 30},
    Dialect.MESSAGES: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 30},
    Dialect.RESPONSES: {"input": "hi", "max_output_tokens": 30},
}
DIALECTS = list(ASKED)


def body_of(dialect: Dialect, **more: Any) -> dict[str, Any]:
    return {**ASKED[dialect], "stream": True, "temperature": 0, **more}


class Client:
    """A client, and what stands between it and one engine after another."""

    def __init__(self, dialect: Dialect, body: dict[str, Any], replay_tokens: int = 8) -> None:
        self.dialect = dialect
        self.journal = Journal(ResumeConfig())
        self.entry = Entry("r1", method.ask(dialect, json.dumps(body).encode(), body, seed=7))
        self.replay_tokens = replay_tokens
        self.received = b""
        self.methods: list[Method] = []
        self._runs = 0

    def run(self, pieces: list[int], cut: int | None = None) -> None:
        """Take the next engine's stream in pieces of the given sizes, up to ``cut`` bytes of it."""
        body, feed = self._next()
        self._runs += 1
        data = b"".join(engine.stream(self.dialect, body, f"run{self._runs}"))[:cut]
        now = 0.0
        while data:
            size = pieces[int(now) % len(pieces)]
            out, _ = feed.feed(data[:size], now)
            self.received += out
            data, now = data[size:], now + 1

    def _next(self) -> tuple[dict[str, Any], Feed]:
        entry = self.entry
        assert entry.asked.value is not None
        if not self._runs:
            return json.loads(entry.asked.body), Feed(self.journal, entry)
        choice = method.choose(entry, self.replay_tokens)
        self.methods.append(choice.method)
        entry.resumed += 1
        if choice.method is Method.PREFILL:
            prompt, ids = engine.prompt_of(entry.asked.value), entry.delivered.shown_ids
            again = entry.delivered.forget_held_back()
            whole = Whole(entry.resumed, entry.delivered.created, len(ids), engine.detokenize(prompt), 1.0)
            body = json.loads(method.prefill_body(entry.asked, prompt, ids))
            return body, Feed(self.journal, entry, whole, again=again)
        whole = Whole(entry.resumed, entry.delivered.created)
        return json.loads(entry.asked.body), Feed(self.journal, entry, whole, Replayed(entry.delivered))


def uncut(dialect: Dialect, body: dict[str, Any]) -> bytes:
    return b"".join(engine.stream(dialect, body, "run1"))


def essences(dialect: Dialect, stream: bytes) -> list[bytes]:
    readings = [read(raw, dialect) for raw in Splitter().feed(stream)]
    skipped = (Nature.COMMENT, Nature.PROGRESS)
    return [reading.essence for reading in readings if reading.nature not in skipped]


def text_of(dialect: Dialect, stream: bytes) -> str:
    readings = [read(raw, dialect) for raw in Splitter().feed(stream)]
    return "".join(
        reading.text for reading in readings if reading.nature is Nature.PART and "done" not in name(reading)
    )


def name(reading: Any) -> str:
    return reading.event.name if reading.event else ""


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(deadline=None, max_examples=30)
@given(pieces=st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_a_stream_that_is_never_cut_stays_byte_for_byte(dialect, pieces):
    body = body_of(dialect)
    client = Client(dialect, body)
    client.run(pieces)
    assert client.received == uncut(dialect, body)
    assert client.entry.is_complete


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(deadline=None, max_examples=30)
@given(
    pieces=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    cuts=st.tuples(st.integers(0, 6000), st.integers(0, 6000)),
    replay_tokens=st.sampled_from([0, 8, 64]),
)
def test_a_stream_that_is_cut_twice_says_the_same(dialect, pieces, cuts, replay_tokens):
    body = body_of(dialect)
    client = Client(dialect, body, replay_tokens)
    for cut in (*cuts, None):
        client.run(pieces, cut)
        if client.entry.is_complete:
            break
    assert client.entry.is_complete
    assert text_of(dialect, client.received) == text_of(dialect, uncut(dialect, body))
    assert essences(dialect, client.received) == essences(dialect, uncut(dialect, body))


@pytest.mark.parametrize("dialect", [Dialect.TEXT, Dialect.CHAT, Dialect.MESSAGES, Dialect.RESPONSES])
def test_names_stay_those_of_the_first_engine(dialect):
    client = Client(dialect, body_of(dialect))
    client.run([100], 1500)
    client.run([100])
    assert b"run1" in client.received
    assert b"run2" not in client.received


@pytest.mark.parametrize("dialect", [Dialect.TEXT, Dialect.CHAT])
def test_every_chunk_has_one_time_of_creation(dialect):
    client = Client(dialect, body_of(dialect))
    client.run([100], 1500)
    client.run([100])
    values = [event.value for raw in Splitter().feed(client.received) if (event := read(raw, dialect).event)]
    assert {value["created"] for value in values if value} == {ord("1")}


class TestPrefill:
    """/completion and /v1/completions, whose text here has no characters of several tokens."""

    @pytest.fixture(autouse=True)
    def _words_only(self, monkeypatch):
        monkeypatch.setattr(engine, "SCRIPT", [256, 257, 258, 259, 260, 261, 262, 263, 264])

    @pytest.mark.parametrize(("dialect", "cuts"), [(Dialect.NATIVE, (800, 2400)), (Dialect.TEXT, (1500, 6000))])
    def test_long_deliveries_are_prefilled_and_short_ones_replayed(self, dialect, cuts):
        client = Client(dialect, body_of(dialect))
        for cut in cuts:
            client.run([100], cut)
        client.run([100])
        assert client.methods == [Method.REPLAY, Method.PREFILL]
        assert essences(dialect, client.received) == essences(dialect, uncut(dialect, body_of(dialect)))

    @pytest.mark.parametrize(("dialect", "cut"), [(Dialect.NATIVE, 2400), (Dialect.TEXT, 6000)])
    def test_the_numbers_are_those_of_the_whole(self, dialect, cut):
        body = body_of(dialect, verbose=True)
        client = Client(dialect, body)
        client.run([100], cut)
        client.run([100])
        assert client.methods == [Method.PREFILL]
        mended, original = last(dialect, client.received), last(dialect, uncut(dialect, body))
        for name in ("tokens_predicted", "tokens_evaluated", "prompt", "generation_settings"):
            assert mended[name] == original[name]
        for name in ("completion_tokens", "prompt_tokens", "total_tokens"):
            assert mended.get("usage", {}).get(name) == original.get("usage", {}).get(name)
        assert mended["timings"]["predicted_n"] == 30
        assert mended["timings"]["prompt_n"] + mended["timings"]["cache_n"] == len("Once upon a")
        assert mended["resumed"] == 1


def last(dialect: Dialect, stream: bytes) -> dict[str, Any]:
    readings = [read(raw, dialect) for raw in Splitter().feed(stream)]
    (value,) = [reading.event.value for reading in readings if reading.nature is Nature.LAST and reading.event]
    assert value is not None
    return {**value, **value.get("__verbose", {})}


def test_a_replay_that_differs_is_noticed():
    client = Client(Dialect.CHAT, body_of(Dialect.CHAT))
    client.run([100], 3000)
    events = client.entry.delivered.events[0]
    events[3] = (b"other", events[3][1])
    with pytest.raises(Difference, match="event 4"):
        client.run([100])


def test_a_replay_that_ends_early_is_noticed():
    client = Client(Dialect.MESSAGES, body_of(Dialect.MESSAGES))
    client.run([100], 1200)
    assert client.entry.asked.value is not None
    replay = Feed(client.journal, client.entry, Whole(1, None), Replayed(client.entry.delivered))
    first = next(engine.stream(Dialect.MESSAGES, body_of(Dialect.MESSAGES), "run2"))
    with pytest.raises(Difference, match="ended before"):
        replay.feed(first + engine.event({"type": "message_stop"}, "message_stop"), 0.0)


def test_pings_of_an_engine_that_repeats_itself_are_not_news():
    client = Client(Dialect.CHAT, body_of(Dialect.CHAT))
    client.run([100], 3000)
    replay = Feed(client.journal, client.entry, Whole(1, None), Replayed(client.entry.delivered))
    assert replay.feed(b":\n\n", 0.0)[0] == b""


def test_tokens_and_progress_are_signs_of_life():
    entry = Entry("r1", method.ask(Dialect.NATIVE, b"{}", {"stream": True}, seed=7))
    feed = Feed(Journal(ResumeConfig()), entry)
    body = body_of(Dialect.NATIVE, return_progress=True)
    hidden, reading, token = list(engine.stream(Dialect.NATIVE, body, "a"))[:3]
    assert feed.feed(hidden, 0.0)[1].progress == (1, 11)
    assert feed.feed(reading, 0.0)[1].progress == (11, 11)
    assert feed.feed(token, 0.0)[1].n_tokens == 1


@pytest.mark.parametrize(
    "text", ["plain", 'with "__verbose": in it', ',"__verbose":{', "\\", "日本🐈", '\\","__verbose":1'], ids=repr
)
def test_only_the_field_itself_is_taken_out(text):
    before = b"data: " + json.dumps({"a": text}, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
    verbose = json.dumps({"prompt": text, "nested": [{"x": {}}]}, ensure_ascii=False).encode()
    assert without_verbose(before + b',"__verbose":' + verbose + b',"z":1}\n\n') == before + b',"z":1}\n\n'
    assert without_verbose(before + b"}\n\n") == before + b"}\n\n"

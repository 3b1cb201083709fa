"""From bytes and times to tokens and times."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.bench.stream import Answer, read_answer, read_chat, read_embedding
from rpc_wrapper.errors import UpstreamError


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def token(predicted: int, *, stop: bool = False) -> bytes:
    """One event as llama-server streams it."""
    return event(content="x", tokens=[5], stop=stop, tokens_predicted=predicted, tokens_evaluated=2)


THREE = [token(1), token(2), token(3), token(3, stop=True)]


def test_each_token_has_the_time_of_its_piece():
    pieces = [(0.5 + index, data) for index, data in enumerate(THREE)]
    answer = read_answer(0.1, pieces, prompt_tokens=2, n_predict=3)
    assert answer.token_at_s == (0.5, 1.5, 2.5)
    assert (answer.ttft_s, answer.ttlt_s) == pytest.approx((0.4, 2.4))
    assert answer.itl_s == [1.0, 1.0]


def test_a_token_that_was_held_back_counts_when_it_shows():
    pieces = [(1.0, token(1)), (4.0, token(4)), (5.0, token(4, stop=True))]
    answer = read_answer(0.0, pieces, prompt_tokens=2, n_predict=4)
    assert answer.token_at_s == (1.0, 4.0, 4.0, 4.0)
    assert answer.itl_s == [1.0, 1.0, 1.0]


def test_tokens_of_the_first_piece_have_no_time_between_them():
    assert Answer(0.0, (1.0, 1.0, 2.0), 1).itl_s == [0.0, 1.0]


def test_events_without_a_count_are_counted_by_their_tokens():
    pieces = [(1.0, event(tokens=[1])), (2.0, event(tokens=[2], stop=True)), (2.0, b"data: [DONE]\n\n")]
    assert read_answer(0.0, pieces, prompt_tokens=9, n_predict=2).token_at_s == (1.0, 2.0)


@given(st.lists(st.integers(1, 400), max_size=60))
def test_any_chunking_gives_every_token_the_time_of_its_last_byte(cuts):
    data = b": a comment\n\n" + b"".join(THREE)
    ends = [len(b": a comment\n\n" + b"".join(THREE[: index + 1])) for index in range(3)]
    cuts = sorted({*(cut for cut in cuts if cut < len(data)), len(data)})
    pieces = [(float(end), data[start:end]) for start, end in zip([0, *cuts], cuts, strict=False)]
    expected = tuple(float(next(cut for cut in cuts if cut >= end)) for end in ends)
    assert read_answer(0.0, pieces, prompt_tokens=2, n_predict=3).token_at_s == expected


@given(st.lists(st.floats(0, 1000), min_size=1))
def test_the_times_between_tokens_add_up(times):
    answer = Answer(0.0, tuple(sorted(times)), 1)
    assert len(answer.itl_s) == len(times) - 1
    assert sum(answer.itl_s) == pytest.approx(answer.ttlt_s - answer.ttft_s)


@pytest.mark.parametrize(
    ("pieces", "sentence"),
    [
        ([], "ended after 0 of 3"),
        (THREE[:2], "ended after 2 of 3"),
        (THREE[:3], "ended after 3 of 3"),  # all there, but nobody said so
        ([token(1), event(error={"message": "backend lost"})], "backend lost"),
        ([b"data: {\n\n"], "no JSON"),
        ([b"data: 3\n\n"], "no object"),
        ([event(tokens_predicted=1, tokens_evaluated=1)], "read 1 prompt tokens of 2"),
    ],
)
def test_what_is_not_a_whole_answer_is_refused(pieces, sentence):
    with pytest.raises(UpstreamError, match=sentence):
        read_answer(0.0, [(1.0, data) for data in pieces], prompt_tokens=2, n_predict=3)


def chunk(text: str, **more: object) -> bytes:
    return event(choices=[{"delta": {"content": text}}], **more)


def test_a_chat_is_as_long_as_its_usage_says():
    role = event(choices=[{"delta": {"role": "assistant", "content": None}}])
    usage = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3})
    pieces = [(1.0, role), (2.0, chunk("a")), (3.0, chunk("bc")), (4.0, usage + b"data: [DONE]\n\n")]
    answer = read_chat(0.5, pieces, prompt_tokens=1)
    assert answer == Answer(0.5, (2.0, 3.0, 3.0), 7)


def test_a_chat_without_usage_counts_its_pieces():
    assert read_chat(0.0, [(1.0, chunk("a") + chunk("b"))], prompt_tokens=4) == Answer(0.0, (1.0, 1.0), 4)


@pytest.mark.parametrize(
    ("data", "words"),
    [(event(choices=[{"delta": {}}]), "without a token"), (event(error={"message": "no"}), "with an error")],
)
def test_a_chat_that_fails_says_so(data, words):
    with pytest.raises(UpstreamError, match=words):
        read_chat(0.0, [(1.0, data)], 1)


def test_an_embedding_is_one_token_at_its_last_byte():
    body = json.dumps({"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 6}}).encode()
    assert read_embedding(0.0, [(1.0, body[:9]), (2.0, body[9:])]) == Answer(0.0, (2.0,), 6)


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"{}", "with none"), (b"no", "with none"), (b'{"data": [{"embedding": []}]}', "of no numbers")],
)
def test_no_embedding_is_an_error(body, words):
    with pytest.raises(UpstreamError, match=words):
        read_embedding(0.0, [(1.0, body)])

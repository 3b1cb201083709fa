import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.link.frames import HOLD_LIMIT, Frame, FrameReader, Head, Malformed, Piece

HEAD = struct.Struct("<BQ")
HELD = 7  # this command's payloads are held


def read_head(head: bytes) -> Head | Malformed:
    command, size = HEAD.unpack(head)
    return Malformed("no such command") if command > 17 else Head(command, size, command == HELD)


def reader() -> FrameReader:
    return FrameReader(HEAD.size, read_head)


def frame(command: int, payload: bytes) -> bytes:
    return HEAD.pack(command, len(payload)) + payload


def rejoined(pieces: list[Piece]) -> bytes:
    """Put the stream together again, held frames included."""
    parts = []
    for piece in pieces:
        if isinstance(piece, bytes | memoryview):
            parts.append(bytes(piece))
        elif isinstance(piece, Frame) and piece.payload is not None:
            parts.append(frame(piece.command, piece.payload))
    return b"".join(parts)


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


FRAMES = st.lists(st.tuples(st.integers(0, 17), st.binary(max_size=40)), max_size=8)
CUTS = st.lists(st.integers(0, 400), max_size=20)


@given(FRAMES, CUTS)
def test_any_chunking_gives_the_same_frames_and_the_same_bytes(frames, cuts):
    stream = b"".join(frame(*each) for each in frames)
    tested = reader()
    pieces = [piece for chunk in chunked(stream, cuts) for piece in tested.feed(chunk)]
    seen = [(piece.command, piece.size) for piece in pieces if isinstance(piece, Frame)]
    assert seen == [(command, len(payload)) for command, payload in frames]
    assert rejoined(pieces) == stream
    assert tested.is_between_frames
    assert tested.held_bytes == 0


@given(st.binary(max_size=2000), CUTS)
def test_noise_neither_raises_nor_piles_up(noise, cuts):
    tested = reader()
    passed = 0
    for chunk in chunked(noise, cuts):
        pieces = tested.feed(chunk)
        passed += len(rejoined(pieces))
        assert tested.held_bytes <= HEAD.size + HOLD_LIMIT
    assert passed <= len(noise)


def test_a_whole_chunk_passes_without_a_copy():
    stream = frame(6, b"x" * 100) + frame(10, b"y" * 50)
    *_, passed = reader().feed(stream)
    assert passed is stream


def test_a_payload_of_which_nothing_came_keeps_its_head_back():
    tested = reader()
    head, payload = HEAD.pack(6, 4), b"abcd"
    assert tested.feed(head) == [Frame(6, 4)]
    assert tested.held_bytes == HEAD.size
    assert [bytes(piece) for piece in tested.feed(payload) if not isinstance(piece, Frame | Malformed)] == [
        head,
        payload,
    ]


def test_an_empty_payload_needs_no_more_bytes():
    assert reader().feed(HEAD.pack(15, 0)) == [Frame(15, 0), HEAD.pack(15, 0)]


def test_a_held_frame_comes_whole_and_only_once():
    tested = reader()
    pieces = [piece for byte in frame(HELD, b"abc") for piece in tested.feed(bytes([byte]))]
    assert pieces == [Frame(HELD, 3, b"abc")]


def test_what_came_before_a_held_frame_goes_before_it():
    before, held, after = frame(6, b"1"), frame(HELD, b"2"), frame(6, b"3")
    kinds = [piece if isinstance(piece, Frame) else bytes(piece) for piece in reader().feed(before + held + after)]  # type: ignore[arg-type]
    assert kinds == [Frame(6, 1), before, Frame(HELD, 1, b"2"), Frame(6, 1), after]


@pytest.mark.parametrize("stream", [HEAD.pack(99, 0), HEAD.pack(HELD, HOLD_LIMIT + 1)], ids=["unknown", "too big"])
def test_a_broken_stream_says_so_once_and_passes_nothing_more(stream):
    tested = reader()
    good = frame(6, b"ok")
    *before, last = tested.feed(good + stream + good)
    assert isinstance(last, Malformed)
    assert rejoined(before) == good
    assert tested.feed(good) == []
    assert not tested.is_between_frames

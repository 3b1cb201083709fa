"""The demo model's tokenizer, without the engine: what goes in comes out."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.demo_model.stories import story
from scripts.demo_model.tokenizer import BOS, EOS, PieceType, Tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer((story(Random(seed)) for seed in range(40)), 512, ["<|user|>"])


def test_size_and_special_pieces(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.pieces) == len(set(tokenizer.pieces)) == 512
    assert (tokenizer.pieces[BOS], tokenizer.pieces[EOS]) == ("<s>", "</s>")
    assert tokenizer.types.count(PieceType.BYTE) == 256
    assert tokenizer.types[tokenizer.id_of("<|user|>")] is PieceType.CONTROL


@given(text=st.text())
def test_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("\u2581", " ")


def test_whatever_is_not_ascii_is_bytes(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("日本語🎉")
    assert len(ids) == 3 * 3 + 4
    assert {tokenizer.types[i] for i in ids} == {PieceType.BYTE}


def test_frequent_words_are_one_piece(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode(" they said")) == 2


def test_earlier_pieces_merge_first(tokenizer: Tokenizer) -> None:
    normal = [score for score, kind in zip(tokenizer.scores, tokenizer.types, strict=True) if kind is PieceType.NORMAL]
    assert normal == sorted(normal, reverse=True)

"""A SentencePiece-like tokenizer with byte fallback: training, and encoding exactly as llama.cpp does.

The rules are those of llama-vocab.cpp (LLAMA_VOCAB_TYPE_SPM).

Pieces never cross the border between letters, digits and other signs, except that a piece may begin with the space
sign; so encoding chunk by chunk equals llama.cpp's merging over the whole text.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise

SPACE = "\u2581"
UNKNOWN, BOS, EOS = 0, 1, 2
_CHUNK = re.compile(f"{SPACE}?[A-Za-z]+|{SPACE}?[^A-Za-z{SPACE}]|{SPACE}")
_LETTERS = [SPACE, *map(chr, range(0x21, 0x7F))]


class PieceType(IntEnum):
    """What a piece is, as GGUF's ``tokenizer.ggml.token_type`` numbers it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    BYTE = 6


@dataclass(frozen=True)
class Tokenizer:
    """Pieces in id order, and how to turn text into ids; the lower a piece's id, the earlier it merges."""

    pieces: list[str]
    types: list[PieceType]
    _cache: dict[str, list[int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {piece: i for i, piece in enumerate(self.pieces)})

    @property
    def scores(self) -> list[float]:
        """Return the merge scores: llama.cpp joins the pair with the highest score first."""
        return [-float(i) if kind is PieceType.NORMAL else 0.0 for i, kind in enumerate(self.types)]

    def id_of(self, piece: str) -> int:
        """Return a piece's id; raise KeyError when there is none."""
        ids: dict[str, int] = self._ids  # type: ignore[attr-defined]
        return ids[piece]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without bos."""
        ids: list[int] = []
        for chunk in _CHUNK.findall(text.replace(" ", SPACE)):
            if chunk not in self._cache:
                self._cache[chunk] = self._encode_chunk(chunk)
            ids += self._cache[chunk]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, control pieces left out."""
        data = b""
        for i in ids:
            if self.types[i] is PieceType.BYTE:
                data += bytes([int(self.pieces[i][3:5], 16)])
            elif self.types[i] is PieceType.NORMAL:
                data += self.pieces[i].replace(SPACE, " ").encode()
        return data.decode(errors="replace")

    def _encode_chunk(self, chunk: str) -> list[int]:
        ids: dict[str, int] = self._ids  # type: ignore[attr-defined]
        parts = list(chunk)
        while True:
            pairs = [(ids.get(left + right), at) for at, (left, right) in enumerate(pairwise(parts))]
            best = min(((i, at) for i, at in pairs if i is not None), default=None)
            if best is None:
                break
            at = best[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [i for part in parts for i in self._part_ids(part)]

    def _part_ids(self, part: str) -> list[int]:
        ids: dict[str, int] = self._ids  # type: ignore[attr-defined]
        return [ids[part]] if part in ids else [ids[f"<0x{byte:02X}>"] for byte in part.encode()]


def train_tokenizer(texts: Iterable[str], size: int, control: list[str]) -> Tokenizer:
    """Learn ``size`` pieces by byte-pair merging; ASCII only, so everything else always falls back to bytes."""
    head = ["<unk>", "<s>", "</s>", *control, *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [PieceType.UNKNOWN, *[PieceType.CONTROL] * (2 + len(control)), *[PieceType.BYTE] * 256]
    merged = _merges(texts, size - len(head) - len(_LETTERS))
    pieces = [*head, *merged, *_LETTERS]
    return Tokenizer(pieces, types + [PieceType.NORMAL] * (len(pieces) - len(head)))


def _merges(texts: Iterable[str], count: int) -> list[str]:
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(c for c in _CHUNK.findall(text.replace(" ", SPACE)) if c.isascii() or c[0] == SPACE)
    words = {c: list(c) for c in chunks if all(letter in _LETTERS for letter in c)}
    merged: list[str] = []
    while len(merged) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in words.items():
            for pair in pairwise(parts):
                pairs[pair] += chunks[word]
        left, right = max(pairs, key=lambda pair: (pairs[pair], pair))
        if left + right not in merged:
            merged.append(left + right)
        for parts in words.values():
            _merge(parts, left, right)
    return merged


def _merge(parts: list[str], left: str, right: str) -> None:
    at = 0
    while at < len(parts) - 1:
        if parts[at] == left and parts[at + 1] == right:
            parts[at : at + 2] = [left + right]
        at += 1

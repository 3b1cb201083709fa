"""Keep a worker's tensor cache in bounds: damaged files go first, then the least recently used ones.

With ``-c`` a worker stores each tensor of more than 10 MiB under ``$LLAMA_CACHE/rpc``, in a file named by the FNV-1a
hash of its bytes in 16 hex digits (``fnv_hash`` and ``rpc_server::set_tensor`` in ggml-rpc.cpp), and believes whatever
it finds there later. Nothing in the engine ever removes one. Call :func:`prune` while the worker is stopped: it writes
in place, so the file it died in is the newest, and half a file.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MIN_BYTES = 10 * 1024 * 1024  # HASH_THRESHOLD, ggml-rpc.cpp: a tensor must be larger than this to be cached
_NAME = re.compile(r"[0-9a-f]{16}")
_OFFSET = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_MASK = (1 << 64) - 1
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, by file name, and how much is left."""

    damaged: tuple[str, ...]
    evicted: tuple[str, ...]
    kept: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    size_bytes: int
    modified_at: float
    used_at: float


def prune(directory: Path, quota_bytes: int, *, verify: int = 1) -> Pruned:
    """Remove damaged files, then the least recently used ones until the rest is within ``quota_bytes``.

    The ``verify`` newest files are hashed; files that are too small to have been cached
    are damaged without asking. A missing directory is an empty cache. Raises OSError when a file cannot be removed.
    """
    entries = sorted(_entries(directory), key=lambda entry: entry.modified_at, reverse=True)
    damaged = [
        entry
        for place, entry in enumerate(entries)
        if entry.size_bytes <= MIN_BYTES or (place < verify and hash_of(entry.path) != entry.path.name)
    ]
    sound = sorted((entry for entry in entries if entry not in damaged), key=lambda entry: entry.used_at)
    left_bytes = sum(entry.size_bytes for entry in sound)
    evicted = []
    while left_bytes > quota_bytes:
        oldest = sound.pop(0)
        evicted.append(oldest)
        left_bytes -= oldest.size_bytes
    for entry in (*damaged, *evicted):
        entry.path.unlink(missing_ok=True)
    return Pruned(_names(damaged), _names(evicted), len(sound), left_bytes)


def fnv1a(data: bytes, state: int = _OFFSET) -> int:
    """Return the 64-bit FNV-1a hash of bytes; ``state`` continues an earlier one.

    A loop over bytes manages two or three megabytes per second, cached tensors have hundreds. But only the low byte of
    the state meets the data: once all low bytes are known, xor becomes addition and the hash a sum of powers.
    """
    if not data:
        return state
    steps = _steps(np.frombuffer(data, np.uint8), state & 0xFF)
    powers = _powers(len(data))
    total = int(np.sum(steps * powers, dtype=np.uint64))
    return (state * int(powers[0]) + total) & _MASK


@lru_cache(maxsize=1)
def _powers(count: int) -> NDArray[np.uint64]:
    """Return the prime's powers modulo 2^64, from ``count`` down to 1."""
    return np.multiply.accumulate(np.full(count, _PRIME, np.uint64))[::-1]


def _steps(data: NDArray[np.uint8], low: int) -> NDArray[np.uint64]:
    """Return what each byte adds to the state when it is xored in, modulo 2^64.

    The low byte before a multiplication is found bit by bit: bit k of the next one is bit k of this one, flipped by
    what its lower bits carry into the product and by the next byte's bit k. That is a running xor.
    """
    mixed = np.zeros_like(data)
    for bit in range(8):
        flips = (data >> bit) & 1
        flips[1:] ^= ((mixed[:-1] * np.uint8(_PRIME & 0xFF)) >> bit) & 1
        flips[0] ^= (low >> bit) & 1
        mixed |= np.bitwise_xor.accumulate(flips) << bit
    return mixed.astype(np.uint64) - (mixed ^ data).astype(np.uint64)


def hash_of(path: Path) -> str:
    """Return the name a worker would give this file."""
    state = _OFFSET
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            state = fnv1a(chunk, state)
    return f"{state:016x}"


def _entries(directory: Path) -> list[_Entry]:
    if not directory.is_dir():
        return []
    found = []
    for path in directory.iterdir():
        if _NAME.fullmatch(path.name) and path.is_file():
            stat = path.stat()
            # relatime lets the access time lag behind; it is never behind the writing by more than that
            found.append(_Entry(path, stat.st_size, stat.st_mtime, max(stat.st_atime, stat.st_mtime)))
    return found


def _names(entries: list[_Entry]) -> tuple[str, ...]:
    return tuple(entry.path.name for entry in entries)

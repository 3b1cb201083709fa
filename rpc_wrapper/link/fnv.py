"""The 64-bit FNV-1a hash by which a worker names what it caches (``fnv_hash`` in ggml-rpc.cpp)."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_OFFSET = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_MASK = (1 << 64) - 1
_CHUNK_BYTES = 1 << 20


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

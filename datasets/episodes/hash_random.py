"""Random numbers from our own counter-based integer hash.

It is SplitMix64 (Steele, Lea & Flood, OOPSLA 2014). numpy's and torch's random streams change
between versions; episodes must not.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function, a bijection of the 64-bit integers."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def derive(keys: NDArray[np.uint64], numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A new key for each key and number (broadcast): the number-th output of the key's stream."""
    return mix(keys + (numbers + np.uint64(1)) * GOLDEN)


def uniform(keys: NDArray[np.uint64], n: int) -> Floats:
    """n numbers in [0, 1) for each key: (T,) -> (T, n)."""
    bits = derive(keys[:, None], np.arange(n, dtype=np.uint64)) >> np.uint64(11)
    return np.asarray(bits * 2.0**-53, np.float64)


def key_of(*words: str | int) -> NDArray[np.uint64]:
    """A key, shape (1,), for words such as ("train", 0)."""
    digest = hashlib.blake2b(repr(words).encode(), digest_size=8).digest()
    return np.frombuffer(digest, "<u8").astype(np.uint64)


def draw(keys: NDArray[np.uint64], sizes: Integers, n: int) -> Integers:
    """The first n numbers of a random permutation of range(size), for each row.

    Fisher-Yates on all rows at once, so a longer draw begins with the shorter one. The bias of the
    multiply-shift range reduction is below size / 2^32.

    Args:
        keys: (R,).
        sizes: (R,), each >= n.
        n: how many to draw.

    Returns:
        (R, n) distinct numbers, each row below its size.
    """
    rows = np.arange(len(keys))
    order = np.tile(np.arange(sizes.max(initial=0), dtype=np.int32), (len(keys), 1))
    remaining = sizes.astype(np.uint64)
    for j in range(n):
        random = derive(keys, np.full(1, j, np.uint64)) >> np.uint64(32)
        pick = (j + ((random * remaining) >> np.uint64(32))).astype(np.int64)
        order[rows, j], order[rows, pick] = order[rows, pick], order[rows, j]
        remaining -= np.uint64(1)
    return order[:, :n].astype(np.int64)

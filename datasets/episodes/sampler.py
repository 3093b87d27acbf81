"""Which classes and images make up an episode: a pure function of (key, episode number).

Randomness is our own, a counter-based integer hash (SplitMix64, Steele, Lea & Flood, OOPSLA 2014),
because numpy's and torch's streams change between versions and these numbers must not. Episode i
has the same classes and the same queries whatever the shot, and its 1-shot support is contained
in its 5-shot support.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UsageError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
EVALUATION_SEED = 0  # val and test episodes are the same for every run and every learner
EPISODES_AT_ONCE = 1024  # episodes drawn at once: bounds memory


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function, a bijection of the 64-bit integers."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def derive(keys: NDArray[np.uint64], numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A new key for each pair of a key and a number, as a SplitMix64 stream gives them."""
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
    """The first n of a random permutation of range(size), for each row.

    Fisher-Yates, all rows at once: a longer draw begins with the shorter one. The bias of the
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
    left = sizes.astype(np.uint64)
    for j in range(n):
        random = derive(keys, np.full(1, j, np.uint64)) >> np.uint64(32)
        pick = (j + ((random * left) >> np.uint64(32))).astype(np.int64)
        order[rows, j], order[rows, pick] = order[rows, pick], order[rows, j]
        left -= np.uint64(1)
    return order[:, :n].astype(np.int64)


class Indices(NamedTuple):
    """Where the images of T episodes lie, in the numbering of one split."""

    classes: Integers  # (T, N)
    images: Integers  # (T, N, Q+K) within their class; the queries come first
    order: Integers  # (T, N*K) the order in which the support is presented


class EpisodeSampler:
    """Draws episodes of one shape from one split."""

    def __init__(
        self, counts: Integers, way: int, shot: int, query: int, key: NDArray[np.uint64]
    ) -> None:
        """Check that such episodes exist.

        Args:
            counts: images of each class, (C,).
            way: N.
            shot: K.
            query: Q, queries a class.
            key: from `key_of`.

        Raises:
            UsageError: fewer than N classes, or a class with fewer than K + Q images.
        """
        if way > len(counts):
            raise UsageError(
                f"way {way}: the split has only {len(counts)} classes; choose a smaller way"
            )
        if counts.min() < shot + query:
            raise UsageError(
                f"shot {shot} + query {query}: the smallest class has only {counts.min()} images; "
                "lower --shot or --query, in training --train_shot or --train_query"
            )
        self.counts, self.way, self.shot, self.query, self.key = counts, way, shot, query, key

    def indices(self, first: int, tasks: int) -> Indices:
        """Episodes first, ..., first + tasks - 1."""
        chunks = [
            self._chunk(
                np.arange(start, min(start + EPISODES_AT_ONCE, first + tasks), dtype=np.uint64)
            )
            for start in range(first, first + tasks, EPISODES_AT_ONCE)
        ]
        return Indices(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))

    def classes(self, numbers: NDArray[np.uint64], keys: NDArray[np.uint64]) -> Integers:
        """The classes of episodes, of which each has a number and a key: (T, N)."""
        return draw(keys, np.full(len(numbers), len(self.counts)), self.way)

    def _chunk(self, numbers: NDArray[np.uint64]) -> Indices:
        tasks, way, shot = len(numbers), self.way, self.shot
        episode = derive(self.key, numbers)
        stream = [derive(episode, np.full(1, s, np.uint64)) for s in range(3)]
        classes = self.classes(numbers, stream[0])
        keys = derive(stream[1][:, None], np.arange(way, dtype=np.uint64)).ravel()
        images = draw(keys, self.counts[classes].ravel(), self.query + shot)
        order = draw(stream[2], np.full(tasks, way * shot), way * shot)
        return Indices(classes, images.reshape(tasks, way, -1), order)


def fingerprint(indices: Iterable[np.ndarray]) -> str:
    """A short hash of episodes: two runs with the same one were tested on the same examples."""
    digest = hashlib.blake2b(digest_size=8)
    for part in indices:
        kind = "<i4" if part.dtype.kind == "i" else "<f8"
        digest.update(np.ascontiguousarray(part, kind).tobytes())
    return digest.hexdigest()

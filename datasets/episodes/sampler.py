"""Which classes and images make up an episode: a pure function of (key, episode number).

Randomness is our own, a counter-based integer hash (SplitMix64, Steele, Lea & Flood, OOPSLA 2014),
because numpy's and torch's streams change between versions and these numbers must not. Episode i
has the same classes and the same queries whatever the shot, and its 1-shot support is contained
in its 5-shot support.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.episodes.hash_random import Integers, derive, draw
from zoo.errors import UsageError

EVALUATION_SEED = 0  # val and test episodes are the same for every run and every learner
EPISODES_AT_ONCE = 1024  # episodes drawn at once: bounds memory


class Indices(NamedTuple):
    """Where the images of T episodes lie, in the numbering of one split."""

    classes: Integers  # (T, N)
    images: Integers  # (T, N, Q+K) within their class; the queries come first
    order: Integers  # (T, N*K) the order in which the support is presented


class EpisodeSampler:
    """Draws episodes of one shape from one split."""

    def __init__(
        self,
        counts: Integers,
        way: int,
        shot: int,
        query: int,
        key: NDArray[np.uint64],
        split: str = "",
        names: Sequence[str] = (),
    ) -> None:
        """Check that such episodes exist.

        Args:
            counts: images of each class, (C,).
            way: N.
            shot: K.
            query: Q, queries a class.
            key: from `key_of`.
            split: that they are drawn from, for messages.
            names: of the classes, likewise.

        Raises:
            UsageError: fewer than N classes, or a class with fewer than K + Q images.
        """
        flag = "--train_" if split == "train" else "--"
        place = int(counts.argmin())
        fewest = int(counts[place])
        if way > len(counts):
            advice = f"take {flag}way {len(counts)} at most"
            raise UsageError(
                f"{flag}way {way}: {split or 'the split'} has only {len(counts)} classes; "
                f"{advice if len(counts) > 1 else 'add classes'}"
            )
        if fewest < shot + query:
            which = f" ({split} class {names[place]!r})" if len(names) else ""
            advice = f"leave that class out{which}"
            if fewest > 1:
                most = min(shot, fewest - 1)
                lower = f"{flag}shot {most} and " if most < shot else ""
                advice = f"take {lower}{flag}query {fewest - most} at most, or {advice}"
            raise UsageError(
                f"shot {shot} + query {query}: the smallest class has only {fewest} images; "
                f"{advice}"
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

    def augmentation_keys(self, numbers: Integers) -> NDArray[np.uint64]:
        """What the augmentation of each of these episodes follows from: (T,) -> (T,)."""
        return derive(derive(self.key, numbers.astype(np.uint64)), np.full(1, 3, np.uint64))

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

"""Which classes and images make up an episode: a pure function of a key and the episode's number.

With N and Q fixed, episode i has the same classes and queries for every K, and its 1-shot support
is part of its 5-shot support. Random numbers are from our own hash (`hash_random`), so that
episodes are the same under every version of numpy and torch.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.episodes.hash_random import Integers, derive, draw
from zoo.errors import UsageError

EVALUATION_SEED = 0  # of val and test episodes, which are the same for every run and learner
# What the random numbers of an episode are for; each has a key of its own.
CLASS_KEY, IMAGE_KEY, ORDER_KEY, AUGMENTATION_KEY = range(4)
EPISODES_AT_ONCE = 1024  # drawn at once, to bound memory


class Indices(NamedTuple):
    """The images of T episodes, by their numbers in a split."""

    classes: Integers  # (T, N)
    images: Integers  # (T, N, Q+K), numbers within their class; the queries come first
    order: Integers  # (T, N*K); [t, p] is the support example shown at place p, as class * K + shot


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
        """Check that such episodes can be drawn.

        Args:
            counts: images of each class, (C,).
            way: N.
            shot: K.
            query: Q, queries per class.
            key: from `key_of`.
            split: its name, for messages.
            names: of the classes, for messages.

        Raises:
            UsageError: fewer than N classes, or a class with fewer than K + Q images.
        """
        flag = "--train_" if split == "train" else "--"
        smallest = int(counts.argmin())
        fewest = int(counts[smallest])
        if way > len(counts):
            advice = f"take {flag}way {len(counts)} at most"
            raise UsageError(
                f"{flag}way {way}: {split or 'the split'} has only {len(counts)} classes; "
                f"{advice if len(counts) > 1 else 'add classes'}"
            )
        if fewest < shot + query:
            which = f" ({split} class {names[smallest]!r})" if len(names) else ""
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
        numbers = np.arange(first, first + tasks, dtype=np.uint64)
        chunks = [
            self._chunk(numbers[start : start + EPISODES_AT_ONCE])
            for start in range(0, tasks, EPISODES_AT_ONCE)
        ]
        return Indices(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))

    def classes(self, numbers: NDArray[np.uint64], keys: NDArray[np.uint64]) -> Integers:
        """The classes of episodes with these numbers (T,) and keys (T,): (T, N)."""
        return draw(keys, np.full(len(numbers), len(self.counts)), self.way)

    def augmentation_keys(self, numbers: Integers) -> NDArray[np.uint64]:
        """Keys to augment the episodes with these numbers: (T,) -> (T,)."""
        episode_keys = derive(self.key, numbers.astype(np.uint64))
        return derive(episode_keys, np.full(1, AUGMENTATION_KEY, np.uint64))

    def _chunk(self, numbers: NDArray[np.uint64]) -> Indices:
        """The episodes with these numbers, (T,)."""
        tasks, way, shot = len(numbers), self.way, self.shot
        keys = derive(self.key, numbers)
        class_keys, image_keys, order_keys = (
            derive(keys, np.full(1, use, np.uint64)) for use in (CLASS_KEY, IMAGE_KEY, ORDER_KEY)
        )
        classes = self.classes(numbers, class_keys)
        keys_by_class = derive(image_keys[:, None], np.arange(way, dtype=np.uint64)).ravel()
        images = draw(keys_by_class, self.counts[classes].ravel(), self.query + shot)
        order = draw(order_keys, np.full(tasks, way * shot), way * shot)
        return Indices(classes, images.reshape(tasks, way, -1), order)


def fingerprint(indices: Iterable[np.ndarray]) -> str:
    """A short hash of the arrays that define episodes.

    It covers indices, not images; `EpisodicDataModule.test_fingerprint` adds the images.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in indices:
        dtype = "<i4" if part.dtype.kind == "i" else "<f8"
        digest.update(np.ascontiguousarray(part, dtype).tobytes())
    return digest.hexdigest()

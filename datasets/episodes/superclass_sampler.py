"""Training episodes from a few superclasses, so that the tasks of an update are alike."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.episodes.hash_random import Integers, derive, draw
from zoo.datasets.episodes.sampler import EpisodeSampler
from zoo.errors import UsageError


class PooledSampler(EpisodeSampler):
    """A sampler whose tasks of one update all take their classes from one pool.

    The pool holds the classes of a few superclasses, drawn anew for each update. Images and their
    order are drawn as by the plain sampler.
    """

    def __init__(
        self, plain: EpisodeSampler, superclasses: Sequence[str], pool: int, meta_batch: int
    ) -> None:
        """Check that such episodes can be drawn.

        Args:
            plain: the sampler whose shape and key it takes.
            superclasses: of each class, (C,).
            pool: how many superclasses an update has.
            meta_batch: T, tasks of an update.

        Raises:
            UsageError: there are fewer superclasses, or the smallest pool has fewer classes than
                ways.
        """
        super().__init__(plain.counts, plain.way, plain.shot, plain.query, plain.key)
        names = sorted(set(superclasses))
        if pool > len(names):
            raise UsageError(f"--superclasses {pool}: the training split has {len(names)}")
        self.members = [np.flatnonzero([s == name for s in superclasses]) for name in names]
        smallest = sum(sorted(map(len, self.members))[:pool])
        if smallest < plain.way:
            raise UsageError(
                f"--superclasses {pool}: the smallest have {smallest} classes together, "
                f"fewer than --train_way {plain.way}"
            )
        self.pool, self.meta_batch = pool, meta_batch

    def classes(self, numbers: NDArray[np.uint64], keys: NDArray[np.uint64]) -> Integers:
        """The classes of episodes, each from its update's pool: (T, N)."""
        updates, pool_of = np.unique(numbers // np.uint64(self.meta_batch), return_inverse=True)
        update_keys = derive(derive(self.key, np.full(1, 2**32, np.uint64)), updates)
        chosen = draw(update_keys, np.full(len(updates), len(self.members)), self.pool)
        pools = [np.concatenate([self.members[s] for s in sorted(row)]) for row in chosen]
        sizes = np.array([len(pool) for pool in pools])
        places = draw(keys, sizes[pool_of], self.way)  # (T, N), places in the pool
        return np.stack([pools[p][row] for p, row in zip(pool_of, places, strict=True)])

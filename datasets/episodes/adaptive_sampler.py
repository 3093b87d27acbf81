"""Training meta-batches chosen among more candidates by scores of their support sets."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from zoo import Episode, Examples
from zoo.datasets.episodes.data_module import MetaBatches, PixelBatch, rows_of
from zoo.datasets.episodes.hash_random import Floats, Integers, derive, key_of, uniform
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.episodes.sampler import Indices

CANDIDATES = 4  # for each task of a meta-batch


class AdaptiveBatches(MetaBatches):
    """Chooses the T episodes of an update from the next 4T of the plain sampler, by their scores.

    The scores depend on the learner's weights, so the candidates of an update are scored when it
    begins. The choice depends on the weights and the seed alone, so a resumed training chooses the
    same episodes.
    """

    store: Store

    def __init__(
        self,
        plain: MetaBatches,
        seed: int,
        scores: Callable[[Examples, int], Tensor],
        normalise: Callable[[Tensor], Tensor],
    ) -> None:
        """Take the place of the plain meta-batches.

        Args:
            plain: the meta-batches of the plain sampler.
            seed: of the random numbers that choose.
            scores: from the C candidates' support sets, x (C, N*K, *image), and their way to (C,).
            normalise: from pixels as stored to what a network is given.
        """
        super().__init__(
            plain.store,
            plain.episode_sampler,
            plain.stop,
            plain.tasks,
            training=True,
            augmented=plain.augmented,
            share=plain.share,
            served=plain.served,
            repeats=plain.repeats,
        )
        self.key = key_of("adaptive", seed)
        self.scores, self.normalise = scores, normalise

    def __iter__(self) -> Iterator[PixelBatch | Episode]:
        """Choose a meta-batch, then serve it."""
        for update, _ in self.batch_numbers():
            numbers, chosen = self.choose(update)
            part = slice(*self.share.part(0, self.tasks))
            yield self.batch_of(numbers[part], Indices(*(field[part] for field in chosen)))

    def choose(self, update: int) -> tuple[Integers, Indices]:
        """The chosen episodes of an update, in the sampler's order: their numbers and images."""
        count = CANDIDATES * self.tasks
        candidates = self.episode_sampler.indices(update * count, count)
        scores = self.scores(*self.supports(candidates)).double().cpu().numpy()
        random = uniform(derive(self.key, np.full(1, update, np.uint64)), count)[0]
        places = drawn_by(scores, random, self.tasks)
        return update * count + places, Indices(*(field[places] for field in candidates))

    def supports(self, candidates: Indices) -> tuple[Examples, int]:
        """The support sets of the candidates, as a learner is given them, and their way."""
        rows, y = self.support(rows_of(self.store, candidates), candidates)
        x = self.store.gather(torch.from_numpy(rows.ravel())).unflatten(0, rows.shape)
        return Examples(self.normalise(x), torch.from_numpy(y)), candidates.classes.shape[1]


def drawn_by(scores: Floats, random: Floats, count: int) -> np.ndarray:
    """Draw `count` of C places without replacement, each by the softmax of the remaining scores.

    That gives the places with the largest sums of score and Gumbel noise (Vieira 2014).

    Args:
        scores: (C,).
        random: (C,), uniform in [0, 1).
        count: how many to draw.

    Returns:
        (count,), ascending.
    """
    noise = -np.log(-np.log(np.clip(random, 1e-300, None)))
    return np.sort(np.argsort(-(scores + noise), kind="stable")[:count])

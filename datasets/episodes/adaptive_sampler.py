"""Training meta-batches chosen from more candidates by what they are worth training on."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from zoo import Episode, Examples
from zoo.datasets.episodes.data_module import MetaBatches, PixelBatch, rows_of
from zoo.datasets.episodes.hash_random import Floats, Integers, derive, key_of, uniform
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.episodes.sampler import Indices

CANDIDATES = 4  # of each task of a meta-batch


class AdaptiveBatches(MetaBatches):
    """Of the candidates, the next episodes of the plain sampler, T are drawn by their scores.

    Scores follow from the weights at hand, so an update's candidates are drawn when it begins. The
    choice depends on nothing else but the seed: a resumed training makes the same.
    """

    store: Store

    def __init__(
        self,
        plain: MetaBatches,
        seed: int,
        scores: Callable[[Examples, int], Tensor],
        normalise: Callable[[Tensor], Tensor],
    ) -> None:
        """Stand for the plain meta-batches.

        Args:
            plain: what would be served.
            seed: of the choice.
            scores: of the candidates' support sets, x (C*T, N*K, *image) and their way -> (C*T,).
            normalise: pixels as stored to what a network sees.
        """
        super().__init__(
            plain.store,
            plain.drawn,
            plain.episodes,
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
        for update, _ in self.numbers():
            numbers, chosen = self.choose(update)
            part = slice(*self.share.part(0, self.tasks))
            yield self.batch_of(numbers[part], Indices(*(field[part] for field in chosen)))

    def choose(self, update: int) -> tuple[Integers, Indices]:
        """The episodes of an update, in the order in which they were drawn: numbers, images."""
        count = CANDIDATES * self.tasks
        candidates = self.drawn.indices(update * count, count)
        scores = self.scores(*self.supports(candidates)).double().cpu().numpy()
        random = uniform(derive(self.key, np.full(1, update, np.uint64)), count)[0]
        places = drawn_by(scores, random, self.tasks)
        return update * count + places, Indices(*(part[places] for part in candidates))

    def supports(self, candidates: Indices) -> tuple[Examples, int]:
        """The support sets of candidates, as a learner sees them, and their way."""
        rows, y = self.support(rows_of(self.store, candidates), candidates)
        x = self.store.gather(torch.from_numpy(rows.ravel())).unflatten(0, rows.shape)
        return Examples(self.normalise(x), torch.from_numpy(y)), candidates.classes.shape[1]


def drawn_by(scores: Floats, random: Floats, count: int) -> np.ndarray:
    """`count` different places, drawn one after the other by the softmax of the scores.

    As the largest of scores + Gumbel noise (Vieira 2014): (C,), random (C,) in [0, 1) -> (count,),
    sorted.
    """
    noise = -np.log(-np.log(np.clip(random, 1e-300, None)))
    return np.sort(np.argsort(-(scores + noise), kind="stable")[:count])

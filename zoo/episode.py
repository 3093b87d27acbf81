"""Few-shot episodes, as every learner sees them.

One legend of letters everywhere: **T** tasks in a meta-batch, **N** ways, **K** shots,
**Q** queries per class, **D** features, and ``*image`` for the shape of one input, (C, H, W).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Examples(NamedTuple):
    """Labelled examples of T tasks."""

    x: Tensor  # (T, n, *image) float
    y: Tensor  # (T, n) int64, each label in [0, N); in regression (T, n, N) float


class Episode(NamedTuple):
    """A meta-batch of T episodes: support sets to adapt to, and queries to predict.

    ``support`` has n = N*K examples per task, in random order; ``query`` has n = N*Q.
    """

    support: Examples
    query: Examples
    way: int  # N; in regression, the number of outputs. An int: reading a GPU tensor would stall

    @property
    def tasks(self) -> int:
        """T, the number of tasks."""
        return self.support.x.shape[0]

    def to(self, dtype: torch.dtype) -> "Episode":
        """The same episodes, with images and regression outputs in another floating-point type."""
        support, query = (
            Examples(x.to(dtype), y.to(dtype) if y.is_floating_point() else y) for x, y in self[:2]
        )
        return Episode(support, query, self.way)


def shots_of(support: Examples, way: int) -> int:
    """K of a support set; in regression, how many points it has."""
    examples = support.y.shape[1]
    if support.y.is_floating_point():
        return examples
    return examples // way


def fewer_shots(support: Examples, shot: int, way: int) -> Examples:
    """Keep `shot` random examples of each class, in their old order: (T, N*shot, ...)."""
    x, y = support
    if y.is_floating_point():  # regression: points are drawn independently, so take the first
        return Examples(x[:, :shot], y[:, :shot])
    # Places in the support set, grouped by class, in random order within a class: (T, N, K).
    by_class = (2 * y + torch.rand(y.shape).to(y.device)).argsort(1).unflatten(1, (way, -1))
    kept = by_class[..., :shot].flatten(1).sort(1).values
    return picked(x, y, kept)


def picked(x: Tensor, y: Tensor, places: Tensor) -> Examples:
    """The examples at the places (T, m) of each task: x (T, n, ...), y (T, n) -> (T, m, ...)."""
    tasks = torch.arange(len(y), device=y.device).unsqueeze(1)
    return Examples(x[tasks, places], y[tasks, places])

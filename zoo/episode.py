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
    """A meta-batch of T episodes: what to adapt to, and what to be judged on.

    ``support`` has n = N*K examples a task, in random order; ``query`` n = N*Q.
    """

    support: Examples
    query: Examples
    way: int  # N, in regression of outputs; a plain int: asking a GPU for it would stall

    @property
    def tasks(self) -> int:
        """T, the number of tasks."""
        return self.support.x.shape[0]

    def to(self, dtype: torch.dtype) -> "Episode":
        """The same with its floating-point numbers, images and outputs, of another type."""
        support, query = (
            Examples(x.to(dtype), y.to(dtype) if y.is_floating_point() else y) for x, y in self[:2]
        )
        return Episode(support, query, self.way)


def shots_of(support: Examples, way: int) -> int:
    """K of a support set; in regression the number of its points."""
    return support.y.shape[1] // (1 if support.y.is_floating_point() else way)


def fewer_shots(support: Examples, shot: int, way: int) -> Examples:
    """`shot` random examples of each class, in the order in which they stood: (T, N*shot, ...)."""
    x, y = support
    if y.is_floating_point():  # regression: points are drawn independently, so the first will do
        return Examples(x[:, :shot], y[:, :shot])
    by_class = (2 * y + torch.rand(y.shape).to(y.device)).argsort(1).unflatten(1, (way, -1))
    kept = by_class[..., :shot].flatten(1).sort(1).values
    return picked(x, y, kept)


def picked(x: Tensor, y: Tensor, places: Tensor) -> Examples:
    """Some of each task's examples: (T, n, ...), (T, n), places (T, m) -> (T, m, ...), (T, m)."""
    tasks = torch.arange(len(y), device=y.device).unsqueeze(1)
    return Examples(x[tasks, places], y[tasks, places])

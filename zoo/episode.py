"""Few-shot episodes, as every learner sees them.

One legend of letters everywhere: **T** tasks in a meta-batch, **N** ways, **K** shots,
**Q** queries per class, **D** features, and ``*image`` for the shape of one input, (C, H, W).
"""

from typing import NamedTuple

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

"""Which tasks of a regression diverged, and what a validation of such tasks is judged by."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.datasets.episodes.hash_random import Floats
from zoo.episode import Episode

TIMES = 10  # the error of who predicts zero: what a task that diverged has more than
TOLERATED = 0.005  # share of diverged tasks up to which validations are told apart by the median


def diverged(mse: Floats, mean_square: Floats) -> NDArray[np.bool_]:
    """Which tasks diverged: those whose MSE is not finite, or very large.

    Very large is more than `TIMES` the mean square of the outputs, taken over all tasks: the error
    of a learner that predicts zero everywhere. A learner that has learned nothing stays below it;
    inner steps that grow instead of shrinking do not. The scale is that of all tasks and not of
    each alone, because a small sine wave missed by an ordinary error is no divergence: of 600 tasks
    of MAML on `sinusoid`, 15 to 19 had more than ten times their own mean square, none more than
    ten times that of all.

    Args:
        mse: of each task, (E,).
        mean_square: of each task's query outputs, (E,).

    Returns:
        (E,).
    """
    return ~(mse <= TIMES * mean_square.mean())


class Validated(NamedTuple):
    """What a validation on functions gave.

    Of two, the one with fewer diverged tasks is better, and of as many that of the lower median:
    the mean would say how far a few tasks went astray. Up to `TOLERATED` they count as as many:
    ANIL on `sinusoid`, 10-shot, has none of 2,000 after 600 updates and one to three from then on;
    without tolerance those first weights are tested (`zoo run anil sinusoid --shot 10`).
    """

    mean: float  # MSE over the tasks that did not diverge; nan where all did
    median: float  # over all tasks
    diverged: float  # share of tasks

    @property
    def score(self) -> tuple[float, float]:
        """More is better."""
        return -max(self.diverged, TOLERATED), -self.median


class TaskErrors:
    """Collects the errors of regression tasks, batch by batch."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.mse: list[torch.Tensor] = []
        self.mean_square: list[torch.Tensor] = []

    @classmethod
    def joined(cls, parts: Iterable["TaskErrors"]) -> "TaskErrors":
        """Those of several processes as one."""
        errors = cls()
        for part in parts:
            errors.mse += part.mse
            errors.mean_square += part.mean_square
        return errors

    def add(self, outputs: dict[str, Any], batch: Episode) -> None:
        """A batch of tasks: what the learner's step returned, with ``mse`` (T,)."""
        self.mse.append(outputs["mse"].detach().cpu())
        self.mean_square.append(mean_square(batch).cpu())

    def validated(self) -> Validated:
        """What all tasks together gave."""
        mse, square = (
            torch.cat(parts).double().cpu().numpy() for parts in (self.mse, self.mean_square)
        )
        away = diverged(mse, square)
        mean = float(mse[~away].mean()) if not away.all() else math.nan
        median = float(np.median(np.where(np.isnan(mse), np.inf, mse)))
        return Validated(mean, median, float(away.mean()))


def mean_square(batch: Episode) -> torch.Tensor:
    """Of the query outputs of each task, (T,)."""
    return batch.query.y.square().flatten(1).mean(1)

"""Which tasks of a regression diverged, and how validations on such tasks are compared."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.datasets.episodes.hash_random import Floats
from zoo.episode import Episode

TIMES = 10  # a task diverged if its error is this many times that of predicting zero
TOLERATED = 0.005  # shares of diverged tasks up to this one count as equal


def diverged(mse: Floats, mean_square: Floats) -> NDArray[np.bool_]:
    """Which tasks diverged: those whose MSE is not finite, or very large.

    Very large means more than `TIMES` the mean square of the outputs over all tasks, which is the
    error of a learner that predicts zero everywhere. A learner that has learned nothing stays below
    that; one whose inner steps grow instead of shrinking does not. The scale is taken over all
    tasks, because an ordinary error on a sine wave of small amplitude is no divergence: of 600
    tasks of MAML on `sinusoid`, 15 to 19 had more than ten times their own mean square, and none
    had more than ten times the mean square over all.

    Args:
        mse: of each task, (E,).
        mean_square: of each task's query outputs, (E,).

    Returns:
        (E,), True for each task that diverged.
    """
    return ~(mse <= TIMES * mean_square.mean())


class Validated(NamedTuple):
    """The result of a validation on regression tasks.

    A validation with fewer diverged tasks is better; with equally many, the one with the lower
    median is better. The mean is not used, since it mostly depends on how far a few tasks went
    astray. Shares up to `TOLERATED` count as equal: ANIL on `sinusoid`, 10-shot, has no diverged
    task of 2,000 after 600 updates, and one to three later; without tolerance those early weights
    would be chosen (`zoo run anil sinusoid --shot 10`).
    """

    mean: float  # MSE over the tasks that did not diverge; nan if all did
    median: float  # over all tasks
    diverged: float  # share of tasks

    @property
    def score(self) -> tuple[float, float]:
        """What validations are compared by; the larger tuple is better."""
        return -max(self.diverged, TOLERATED), -self.median


class TaskErrors:
    """Collects the errors of regression tasks, batch by batch."""

    def __init__(self) -> None:
        """Start without any."""
        self.mse: list[torch.Tensor] = []  # (T,) for each batch
        self.mean_square: list[torch.Tensor] = []  # of the query outputs, (T,) for each batch

    @classmethod
    def joined(cls, parts: Iterable["TaskErrors"]) -> "TaskErrors":
        """Join the errors that several processes collected."""
        errors = cls()
        for part in parts:
            errors.mse += part.mse
            errors.mean_square += part.mean_square
        return errors

    def add(self, outputs: dict[str, Any], batch: Episode) -> None:
        """Add a batch of tasks.

        Args:
            outputs: what the learner's step returned, with ``mse`` (T,).
            batch: the tasks.
        """
        self.mse.append(outputs["mse"].detach().cpu())
        self.mean_square.append(mean_square(batch).cpu())

    def validated(self) -> Validated:
        """The result over all tasks."""
        mse = torch.cat(self.mse).double().cpu().numpy()
        is_diverged = diverged(mse, torch.cat(self.mean_square).double().cpu().numpy())
        mean = math.nan if is_diverged.all() else float(mse[~is_diverged].mean())
        median = float(np.median(np.where(np.isnan(mse), np.inf, mse)))
        return Validated(mean, median, float(is_diverged.mean()))


def mean_square(batch: Episode) -> torch.Tensor:
    """The mean square of each task's query outputs, (T,)."""
    return batch.query.y.square().flatten(1).mean(1)

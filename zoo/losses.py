"""Losses, one number a task."""

from torch import Tensor
from torch.nn import functional as F


def task_loss(prediction: Tensor, y: Tensor) -> Tensor:
    """What a learner minimises: cross-entropy of labels, mean squared error of numbers.

    Args:
        prediction: logits (T, n, N), or numbers (T, n, outputs).
        y: int64 (T, n), or float (T, n, outputs).

    Returns:
        One loss a task, (T,).
    """
    if y.is_floating_point():
        return (prediction - y).square().mean((1, 2))
    return task_cross_entropy(prediction, y)


def task_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each task: (T, n, N), (T, n) -> (T,)."""
    return F.cross_entropy(logits.mT, y, reduction="none").mean(-1)

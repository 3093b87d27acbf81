"""Losses, one number a task."""

from torch import Tensor
from torch.nn import functional as F


def task_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each task: (T, n, N), (T, n) -> (T,)."""
    return F.cross_entropy(logits.mT, y, reduction="none").mean(-1)

"""Losses, one number a task, and how a term that is added to a loss pulls beside it."""

from collections.abc import Iterable, Sequence

import torch
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


def compare_gradients(
    host: Tensor, added: Tensor, parameters: Iterable[Tensor]
) -> tuple[Tensor, Tensor]:
    """The gradient of an added loss beside that of the host's loss.

    Both graphs are kept, so the losses can still be minimised.

    Args:
        host: a scalar loss.
        added: a scalar, as it is added to `host`: with its weight.
        parameters: those that are learned; the ones that `host` does not depend on are left out.

    Returns:
        |grad added| / |grad host|, and the cosine of the two gradients.
    """
    learned = [p for p in parameters if p.requires_grad]
    reached = torch.autograd.grad(host, learned, retain_graph=True, allow_unused=True)
    shared = [p for p, g in zip(learned, reached, strict=True) if g is not None]
    ours = _flat([g for g in reached if g is not None])
    theirs = torch.zeros_like(ours)
    if added.requires_grad:
        found = torch.autograd.grad(
            added, shared, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        theirs = _flat(found)
    return theirs.norm() / ours.norm(), F.cosine_similarity(ours, theirs, dim=0)


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    """One vector."""
    return torch.cat([g.flatten() for g in gradients])

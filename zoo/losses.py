"""Losses, one number per task, and a comparison of the gradients of two losses."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def task_loss(prediction: Tensor, y: Tensor) -> Tensor:
    """What a learner minimises: cross-entropy for labels, mean squared error for numbers.

    Args:
        prediction: logits (T, n, N), or numbers (T, n, outputs).
        y: int64 (T, n), or float (T, n, outputs).

    Returns:
        One loss per task, (T,).
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
    """Compare the gradient of an added loss with that of the host's loss.

    Both graphs are kept, so that the losses can still be minimised.

    Args:
        host: a scalar loss.
        added: the scalar that is added to `host`, its weight included.
        parameters: the learned ones; those that `host` does not depend on are ignored.

    Returns:
        |grad added| / |grad host|, and the cosine of the two gradients.
    """
    learned = [p for p in parameters if p.requires_grad]
    gradients = torch.autograd.grad(host, learned, retain_graph=True, allow_unused=True)
    used_by_host = [p for p, g in zip(learned, gradients, strict=True) if g is not None]
    host_gradient = _flat([g for g in gradients if g is not None])
    added_gradient = torch.zeros_like(host_gradient)
    if added.requires_grad:
        added_gradient = _flat(
            torch.autograd.grad(
                added, used_by_host, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        )
    ratio = added_gradient.norm() / host_gradient.norm()
    return ratio, F.cosine_similarity(host_gradient, added_gradient, dim=0)


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    """All numbers in one vector."""
    return torch.cat([g.flatten() for g in gradients])

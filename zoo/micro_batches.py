"""Compute an update's gradient a few tasks at a time, to hold only their graph in memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from zoo.episode import Episode, Examples


def micro_batches(episode: Episode, size: int) -> Iterator[Episode]:
    """The tasks of a meta-batch, `size` at a time."""
    for first in range(0, episode.tasks, size):
        tasks = slice(first, first + size)
        support, query = (Examples(part.x[tasks], part.y[tasks]) for part in episode[:2])
        yield Episode(support, query, episode.way)


def loss_in_parts(
    loss: Callable[[Episode], Tensor],
    episode: Episode,
    size: int,
    parameters: Sequence[Tensor],
    *,
    zero_unused: bool,
) -> Tensor:
    """The mean loss of a meta-batch, with its gradient already computed.

    The gradient is computed here, `size` tasks at a time, and each graph is dropped before the next
    one is built. The backward pass of the returned scalar only passes it on. So the scalar can be
    used like any loss: gradients can be accumulated, clipped, or averaged over processes.

    Args:
        loss: gives the mean loss of some tasks, a scalar.
        episode: the meta-batch.
        size: how many tasks at a time.
        parameters: the learned ones.
        zero_unused: whether parameters that the loss does not depend on get a gradient of zeros;
            otherwise they get none.
    """
    total: Any = 0.0
    gradients: list[Tensor | None] = [None] * len(parameters)
    for part in micro_batches(episode, size):
        value = loss(part) / (episode.tasks / part.tasks)  # weighted by its share of the tasks
        total = total + value.detach()
        added = torch.autograd.grad(value, parameters, allow_unused=True)
        for i, gradient in enumerate(added):
            if gradient is not None:
                before = gradients[i]
                gradients[i] = gradient if before is None else before + gradient
    if zero_unused:
        pairs = zip(gradients, parameters, strict=True)
        gradients = [torch.zeros_like(p) if g is None else g for g, p in pairs]
    used = [i for i, gradient in enumerate(gradients) if gradient is not None]
    return _WithGradients.apply(total, [gradients[i] for i in used], *(parameters[i] for i in used))


class _WithGradients(Function):
    """A scalar, with given gradients in some parameters."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(outer * gradient for gradient in ctx.gradients)

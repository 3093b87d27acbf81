"""An update's gradient, computed a few tasks at a time: memory stays at the graph of those few."""

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
    unused: bool,
) -> Tensor:
    """The mean loss of a meta-batch, whose gradient is known already when it is returned.

    The gradient is that of the whole meta-batch, the mean over its tasks. It is computed here,
    `size` tasks after `size` tasks, each graph dropped before the next is made; the scalar that is
    returned hands it on in its backward pass. So whatever is done with a loss can be done with it:
    gradients can be accumulated, clipped, or averaged over processes.

    Args:
        loss: the mean loss of some tasks, a scalar.
        episode: the meta-batch.
        size: tasks at a time.
        parameters: those that are learned.
        unused: whether parameters that the loss does not depend on get a gradient of zeros;
            otherwise they get none.
    """
    total: Any = 0.0
    gradients: list[Tensor | None] = [None] * len(parameters)
    for part in micro_batches(episode, size):
        value = loss(part) / (episode.tasks / part.tasks)
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        total = total + value.detach()
        for place, gradient in enumerate(found):
            if gradient is not None:
                before = gradients[place]
                gradients[place] = gradient if before is None else before + gradient
    if unused:
        pairs = zip(gradients, parameters, strict=True)
        gradients = [torch.zeros_like(p) if g is None else g for g, p in pairs]
    used = [place for place, gradient in enumerate(gradients) if gradient is not None]
    return _Known.apply(
        total, [gradients[place] for place in used], *(parameters[place] for place in used)
    )


class _Known(Function):
    """A scalar whose gradients in some parameters are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(outer * gradient for gradient in ctx.gradients)

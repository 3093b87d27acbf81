"""Refusing a derivative that an autograd Function does not have."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class _NoMore(Function):
    """The value itself; asking for its derivative in any of the sources is an error."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *sources: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        raise RuntimeError("a third derivative is not available")


def last_derivative(backward: Callable[..., tuple[Tensor | None, ...]]) -> Callable[..., Any]:
    """Refuse to differentiate a second derivative; once_differentiable drops it in silence."""

    def refusing(ctx: Any, *h: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            values = backward(ctx, *h)
        sources = [t for t in (*h, *ctx.saved_tensors) if t is not None and t.requires_grad]
        if not torch.is_grad_enabled() or not sources:
            return values
        return tuple(None if v is None else _NoMore.apply(v, *sources) for v in values)

    return refusing

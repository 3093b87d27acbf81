"""The layers of our backbones, and a fast block of convolution, batch norm, ReLU and max-pool.

Each layer also runs with *per-task* parameters, tensors with a leading T. Tasks are then folded
into channels (convolutions with groups = T), so that no task sees another's weights or statistics.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.batch_norm import BatchNorm
from zoo.errors import UsageError
from zoo.networks import second_derivatives
from zoo.networks.patch_statistics import PatchMoments, batch_moments
from zoo.networks.second_derivatives import rounded_to

SMALL = 0.01  # standard deviation of initial weights that should have nearly no effect


class Conv(nn.Module):
    """A convolution with an odd kernel, padded by half of it, without bias, as a norm follows."""

    # The type that maps and weights are rounded to before they are multiplied; None for no
    # rounding. Weights, gradients and what comes out keep their type.
    product_type: torch.dtype | None = None

    def __init__(self, inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size))
        self.stride = stride
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as nn.Conv2d starts

    def folded(self) -> tuple[Tensor, int]:
        """The weights (T*O, C, k, k), and T."""
        tasks = len(self.weight) if self.weight.dim() == 5 else 1
        return self.weight.reshape(-1, *self.weight.shape[-3:]), tasks

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, O, H', W'); per-task: (n, T*C, H, W) -> (n, T*O, H', W')."""
        weight, tasks = self.folded()
        pad, rounded = weight.shape[-1] // 2, partial(rounded_to, dtype=self.product_type)
        z = F.conv2d(rounded(x), rounded(weight), None, self.stride, pad, groups=tasks)
        return z.to(x.dtype)


class FixedImages:
    """Images that enter a network more than once, and results about them that can be reused."""

    def __init__(self, x: Tensor) -> None:
        """Keep x, (n, C, H, W), or of all tasks (T, n, C, H, W)."""
        self.x = x
        self._patches: dict[tuple[int | None, int, int, int], PatchMoments] = {}

    @cached_property
    def pixels(self) -> Tensor:
        """The images folded, (n, T*C, H, W)."""
        return fold(self.x.squeeze(0) if len(self.x) == 1 else self.x)

    def matches(self, x: Tensor) -> bool:
        """Whether x is these images, that is, the same memory; a T of 1 may be missing."""
        images = self.x
        if x.dim() < images.dim() and len(images) == 1:
            images = images[0]
        same_memory = x.data_ptr() == images.data_ptr()
        return same_memory and x.shape == images.shape and x.stride() == images.stride()

    def patches(self, conv: Conv, rows: int | None) -> PatchMoments:
        """Moments of the patches that `conv` sees in the first `rows` images; None means all."""
        weight, tasks = conv.folded()
        size = weight.shape[-1]
        key = (rows, size, conv.stride, tasks)
        if key not in self._patches:
            self._patches[key] = PatchMoments.of(self.pixels[:rows], size, conv.stride, tasks)
        return self._patches[key]


def fold(x: Tensor) -> Tensor:
    """Fold tasks into channels: (T, n, C, H, W) -> (n, T*C, H, W); (n, C, H, W) stays."""
    if x.dim() == 5:
        x = x.transpose(0, 1).flatten(1, 2)
    return second_derivatives.channels_last(x)


def unfold(maps: Tensor, like: Tensor) -> Tensor:
    """The inverse of `fold`, if `like` has tasks: (n, T*C, ...) -> (T, n, C, ...)."""
    if like.dim() == 4:
        return maps
    return maps.unflatten(1, (len(like), -1)).transpose(0, 1)


_plain = False


@contextmanager
def plain() -> Iterator[None]:
    """Inside, `block` computes layer by layer as PyTorch does: a reference to compare with."""
    global _plain
    before = _plain
    _plain = True
    try:
        yield
    finally:
        _plain = before


def block(
    x: Tensor,
    conv: Conv,
    norm: BatchNorm,
    *,
    relu: bool = True,
    pool: bool = False,
    fixed: FixedImages | None = None,
) -> Tensor:
    """relu(max_pool(norm(conv(x)))): (n, T*C, H, W) -> (n, T*O, H', W').

    With a FiLM in the norm: max_pool(relu(film(norm(conv(x))))).

    Args:
        x: images or maps.
        conv: the convolution.
        norm: the batch norm.
        relu: whether there is a ReLU.
        pool: whether there is a 2x2 max-pool.
        fixed: given if x is its `pixels`, whose statistics can be reused.
    """
    if norm.film is not None:
        z = norm.film.maps(x, _without_film(x, conv, norm, False, False, fixed))
        z = F.relu(z) if relu else z
        return second_derivatives.max_pool(z) if pool else z
    return _without_film(x, conv, norm, relu, pool, fixed)


def _without_film(
    x: Tensor, conv: Conv, norm: BatchNorm, relu: bool, pool: bool, fixed: FixedImages | None
) -> Tensor:
    """A block that leaves out the norm's FiLM."""
    if _plain or norm.spans_processes:
        x = norm(conv(x.contiguous()))  # the layout in which PyTorch's own derivatives are faster
        x = F.max_pool2d(x, 2) if pool else x
        return F.relu(x) if relu else x  # after the maximum: the same result in less time
    weight, tasks = conv.folded()
    gamma, beta = norm.weight.flatten(), norm.bias.flatten()
    rows = norm.support_rows if norm.mode == "support" else None
    if norm.constant:
        mean, var = norm.running_mean.repeat(tasks), norm.running_var.repeat(tasks)
    elif fixed is not None and norm.mode != "running":
        mean, var = fixed.patches(conv, rows).after(weight)
    else:
        z = second_derivatives.conv2d(x, weight, conv.stride, tasks, conv.product_type)
        if rows is None:
            with norm.moving() as running:
                return second_derivatives.batch_norm(
                    z,
                    gamma,
                    beta,
                    relu=relu,
                    pool=pool,
                    running=running,
                    eps=norm.eps,
                    momentum=norm.momentum,
                )
        mean, var = batch_moments(z[:rows])
        scale = gamma * (var + norm.eps).rsqrt()
        return _pool_shift_relu(z * scale.view(-1, 1, 1), beta - mean * scale, relu, pool)
    # The statistics are known before the convolution, so its weights can include the scale.
    scale = gamma * (var + norm.eps).rsqrt()
    scaled = weight * scale.view(-1, 1, 1, 1)
    z = second_derivatives.conv2d(x, scaled, conv.stride, tasks, conv.product_type)
    return _pool_shift_relu(z, beta - mean * scale, relu, pool)


def _pool_shift_relu(z: Tensor, bias: Tensor, relu: bool, pool: bool) -> Tensor:
    """relu(max_pool(z) + bias): z (n, C, H, W), bias (C,)."""
    z = (second_derivatives.max_pool(z) if pool else z) + bias.view(-1, 1, 1)
    return F.relu(z) if relu else z


def pointwise(net: nn.Module, x: Tensor) -> Tensor:
    """Run `net` on each of the T*n points by itself: (T, n, D) -> (T, n, O)."""
    return net(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Linear(nn.Module):
    """An affine map; with weights (T, O, D) it takes (T, n, D)."""

    folds = True

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        bound = inputs**-0.5  # as nn.Linear starts
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., O)."""
        if self.weight.dim() == 2:
            return F.linear(x, self.weight, self.bias)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


class FiLM(nn.Module):
    """(gamma(x) + 1) z + beta(x): x, the input of the layer that made z, modulates z.

    Gamma and beta are linear in x.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        """Start with nearly no modulation.

        Args:
            inputs: channels of x.
            outputs: channels of z.
        """
        super().__init__()
        self.linear = Linear(inputs, 2 * outputs)
        start_small(self)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x (..., C), z (..., O) -> (..., O)."""
        gamma, beta = self.linear(x).chunk(2, -1)
        return (gamma + 1) * z + beta

    def maps(self, x: Tensor, z: Tensor) -> Tensor:
        """Modulate maps z by the means of x over pixels.

        x (n, T*C, H, W), z (n, T*O, H', W') -> (n, T*O, H', W')
        """
        weight, means = self.linear.weight, x.mean((2, 3))
        if weight.dim() == 3:  # per-task parameters
            means = means.unflatten(1, (len(weight), -1)).transpose(0, 1)  # (T, n, C)
        gamma, beta = (fold_channels(part) for part in self.linear(means).chunk(2, -1))
        return (gamma + 1) * z + beta


def fold_channels(v: Tensor) -> Tensor:
    """Fold tasks into channels of maps: (T, n, O) -> (n, T*O, 1, 1); (n, O) -> (n, O, 1, 1)."""
    if v.dim() == 3:
        v = v.transpose(0, 1).flatten(1)
    return v[..., None, None]


def start_small(net: nn.Module) -> None:
    """Draw the weights of `net` from N(0, 0.01^2), and set biases to 0."""
    for p in net.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, 0, SMALL)
        else:
            nn.init.zeros_(p)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """The cosine of every pair: (..., n, D), (..., N, D) -> (..., n, N)."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT


class CosineHead(nn.Module):
    """Scaled cosines to a vector of each class; it also runs with per-task weights (T, N, D)."""

    folds = True

    def __init__(self, inputs: int, outputs: int, scale: float = 10.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.scale = scale
        nn.init.normal_(self.weight)  # only its direction matters

    def forward(self, x: Tensor) -> Tensor:
        """(..., n, D) -> (..., n, N)."""
        return self.scale * cosines(x, self.weight)


HEADS = {"linear": Linear, "cosine": CosineHead}


def build_head(kind: str, features: int, outputs: int, flag: str) -> Linear | CosineHead:
    """A linear or cosine classifier.

    Args:
        kind: ``linear`` or ``cosine``.
        features: D.
        outputs: how many logits.
        flag: the setting that `kind` comes from, for the message.

    Raises:
        UsageError: it is neither.
    """
    if kind not in HEADS:
        raise UsageError(f"--{flag} {kind}: choose from {', '.join(HEADS)}")
    return HEADS[kind](features, outputs)

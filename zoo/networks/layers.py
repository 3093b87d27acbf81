"""The layers of our backbones: plain reference implementations, and a fast block of them.

Each layer also runs with *per-task* parameters, tensors with a leading T: tasks are folded into
channels (convolutions with groups = T), so that no task sees another's weights or statistics.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UsageError
from zoo.networks import second_derivatives
from zoo.networks.patch_statistics import PatchMoments, batch_moments
from zoo.networks.second_derivatives import EPS, MOMENTUM

BATCH_NORM_MODES = ("batch", "running", "support")


class Conv(nn.Module):
    """A convolution with an odd kernel, padded by half of it, without bias: a norm follows."""

    def __init__(self, inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size))
        self.stride = stride
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # nn.Conv2d's own start

    def folded(self) -> tuple[Tensor, int]:
        """The weights (T*O, C, k, k), and T."""
        weight = self.weight
        return weight.reshape(-1, *weight.shape[-3:]), len(weight) if weight.dim() == 5 else 1

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, O, H', W'); with weights (T, O, C, k, k), (n, T*C, ...) likewise."""
        weight, tasks = self.folded()
        return F.conv2d(x, weight, None, self.stride, weight.shape[-1] // 2, groups=tasks)


class BatchNorm(nn.Module):
    """Batch normalisation in three modes.

    - ``batch``: statistics of the batch at hand, always.
    - ``running``: batch statistics in training, which also move the buffers; the buffers'
      constants in evaluation.
    - ``support``: statistics of the support set, with gradient through them, also for the
      queries behind it in the batch: the inductive variant of ``batch`` (see `normalising`).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, mode: str = "batch") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.mode = mode
        self.support_rows: int | None = None  # set by `normalising`
        self.track = True
        self.film: Any = None  # a zoo.networks.film.FiLM behind this norm, where a learner put one

    @property
    def constant(self) -> bool:
        """Whether the statistics are the buffers' constants."""
        return self.mode == "running" and not self.training

    @contextmanager
    def moving(self) -> Iterator[tuple[Tensor, Tensor] | None]:
        """The running statistics that this batch moves, a copy for each task; None for none."""
        if self.mode != "running" or not self.training or not self.track:
            yield None
            return
        tasks = self.weight.numel() // len(self.running_mean)
        moved = self.running_mean.repeat(tasks), self.running_var.repeat(tasks)
        yield moved
        for buffer, values in zip((self.running_mean, self.running_var), moved, strict=True):
            buffer.copy_(values.view(tasks, -1).mean(0))

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, ...) -> the same; with weights (T, C), (n, T*C, ...) -> the same."""
        weight, bias = self.weight.flatten(), self.bias.flatten()
        if self.mode == "support" and self.support_rows is not None:
            dims = [d for d in range(x.dim()) if d != 1]
            shape = [-1 if d == 1 else 1 for d in range(x.dim())]
            var, mean = torch.var_mean(x[: self.support_rows], dims, correction=0, keepdim=True)
            return (x - mean) * (var + EPS).rsqrt() * weight.view(shape) + bias.view(shape)
        if self.constant:
            tasks = len(weight) // len(self.running_mean)
            constants = self.running_mean.repeat(tasks), self.running_var.repeat(tasks)
            return F.batch_norm(x, *constants, weight, bias, False, MOMENTUM, EPS)
        with self.moving() as moved:
            moving_mean, moving_var = moved or (None, None)
            return F.batch_norm(x, moving_mean, moving_var, weight, bias, True, MOMENTUM, EPS)


class Fixed:
    """Images that enter a network more than once, and what need be computed of them only once."""

    def __init__(self, x: Tensor) -> None:
        """Keep x, (n, C, H, W) or all tasks' (T, n, C, H, W)."""
        self.x = x
        self._patches: dict[tuple[int | None, int, int, int], PatchMoments] = {}

    @cached_property
    def pixels(self) -> Tensor:
        """Folded: (n, T*C, H, W)."""
        return fold(self.x.squeeze(0) if len(self.x) == 1 else self.x)

    def are(self, x: Tensor) -> bool:
        """Whether x is these images: the same memory, maybe without a T of 1."""
        mine = self.x[0] if x.dim() < self.x.dim() and len(self.x) == 1 else self.x
        same = (mine.data_ptr(), mine.shape, mine.stride())
        return (x.data_ptr(), x.shape, x.stride()) == same

    def patches(self, conv: Conv, rows: int | None) -> PatchMoments:
        """Of the patches that a convolution sees in the first `rows` images; None means all."""
        weight, tasks = conv.folded()
        key = rows, weight.shape[-1], conv.stride, tasks
        if key not in self._patches:
            self._patches[key] = PatchMoments.of(self.pixels[:rows], *key[1:])
        return self._patches[key]


def fold(x: Tensor) -> Tensor:
    """Tasks into channels: (T, n, C, H, W) -> (n, T*C, H, W); (n, C, H, W) stays."""
    return second_derivatives.channels_last(x.transpose(0, 1).flatten(1, 2) if x.dim() == 5 else x)


def unfold(maps: Tensor, like: Tensor) -> Tensor:
    """Channels back into tasks, where `like` has them: (n, T*C, ...) -> (T, n, C, ...)."""
    if like.dim() == 4:
        return maps
    return maps.unflatten(1, (len(like), -1)).transpose(0, 1)


_plain = False


@contextmanager
def plain() -> Iterator[None]:
    """Let `block` compute layer by layer as PyTorch does: the reference of tests and benchmarks."""
    global _plain
    before, _plain = _plain, True
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
    fixed: Fixed | None = None,
) -> Tensor:
    """relu(max_pool(norm(conv(x)))): (n, T*C, H, W) -> (n, T*O, H', W').

    Where FiLM modulates the norm, max_pool(relu(film(norm(conv(x))))).

    Args:
        x: images or maps.
        conv: the convolution.
        norm: the batch norm.
        relu: whether a ReLU follows.
        pool: whether 2x2 maxima are taken.
        fixed: x, where it is known as fixed data.
    """
    if norm.film is not None:
        z = norm.film.maps(x, _normalised(x, conv, norm, False, False, fixed))
        z = F.relu(z) if relu else z
        return second_derivatives.max_pool(z) if pool else z
    return _normalised(x, conv, norm, relu, pool, fixed)


def _normalised(
    x: Tensor, conv: Conv, norm: BatchNorm, relu: bool, pool: bool, fixed: Fixed | None
) -> Tensor:
    """A block without FiLM."""
    if _plain:
        x = norm(conv(x.contiguous()))  # the layout in which PyTorch's own derivatives are faster
        x = F.max_pool2d(x, 2) if pool else x
        return F.relu(x) if relu else x  # ReLU and maximum commute; so it sees a quarter
    weight, tasks = conv.folded()
    gamma, beta = norm.weight.flatten(), norm.bias.flatten()
    rows = norm.support_rows if norm.mode == "support" else None
    if norm.constant:
        mean, var = norm.running_mean.repeat(tasks), norm.running_var.repeat(tasks)
    elif fixed is not None and norm.mode != "running":
        mean, var = fixed.patches(conv, rows).after(weight)
    else:
        z = second_derivatives.conv2d(x, weight, conv.stride, tasks)
        if rows is None:
            with norm.moving() as moved:
                return second_derivatives.batch_norm(
                    z, gamma, beta, relu=relu, pool=pool, running=moved
                )
        mean, var = batch_moments(z[:rows])
        scale = gamma * (var + EPS).rsqrt()
        return _shifted(z * scale.view(-1, 1, 1), beta - mean * scale, relu, pool)
    # The statistics are known before the convolution: its weights take the scale.
    scale = gamma * (var + EPS).rsqrt()
    z = second_derivatives.conv2d(x, weight * scale.view(-1, 1, 1, 1), conv.stride, tasks)
    return _shifted(z, beta - mean * scale, relu, pool)


def _shifted(z: Tensor, bias: Tensor, relu: bool, pool: bool) -> Tensor:
    z = (second_derivatives.max_pool(z) if pool else z) + bias.view(-1, 1, 1)
    return F.relu(z) if relu else z


def set_batch_norm(net: nn.Module, mode: str) -> bool:
    """Put every batch norm of a network into one of the three modes; tells whether it has any.

    Raises:
        UsageError: there is no such mode.
    """
    if mode not in BATCH_NORM_MODES:
        raise UsageError(f"batch_norm: no mode {mode!r}: choose from {', '.join(BATCH_NORM_MODES)}")
    norms = [module for module in net.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.mode = mode
    return bool(norms)


def pointwise(net: nn.Module, x: Tensor) -> Tensor:
    """(T, n, D) -> (T, n, O), each point by itself."""
    return net(x.flatten(0, 1)).unflatten(0, x.shape[:2])

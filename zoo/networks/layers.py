"""The layers of our backbones: plain reference implementations, and a fast block of them.

Each layer also runs with *per-task* parameters, tensors with a leading T: tasks are folded into
channels (convolutions with groups = T), so that no task sees another's weights or statistics.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.batch_norm import BatchNorm
from zoo.errors import UsageError
from zoo.networks import second_derivatives
from zoo.networks.patch_statistics import PatchMoments, batch_moments

START = 0.01  # standard deviation of what learns to modulate: nearly nothing


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


class FixedImages:
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
    fixed: FixedImages | None = None,
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
    x: Tensor, conv: Conv, norm: BatchNorm, relu: bool, pool: bool, fixed: FixedImages | None
) -> Tensor:
    """A block without FiLM."""
    if _plain or norm.spans_processes:
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
                    z, gamma, beta, relu=relu, pool=pool, running=moved,
                    eps=norm.eps, momentum=norm.momentum,
                )  # fmt: skip
        mean, var = batch_moments(z[:rows])
        scale = gamma * (var + norm.eps).rsqrt()
        return _shifted(z * scale.view(-1, 1, 1), beta - mean * scale, relu, pool)
    # The statistics are known before the convolution: its weights take the scale.
    scale = gamma * (var + norm.eps).rsqrt()
    z = second_derivatives.conv2d(x, weight * scale.view(-1, 1, 1, 1), conv.stride, tasks)
    return _shifted(z, beta - mean * scale, relu, pool)


def _shifted(z: Tensor, bias: Tensor, relu: bool, pool: bool) -> Tensor:
    z = (second_derivatives.max_pool(z) if pool else z) + bias.view(-1, 1, 1)
    return F.relu(z) if relu else z


def pointwise(net: nn.Module, x: Tensor) -> Tensor:
    """(T, n, D) -> (T, n, O), each point by itself."""
    return net(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Linear(nn.Module):
    """An affine map; with weights (T, O, D) it takes (T, n, D)."""

    folds = True

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        bound = inputs**-0.5  # nn.Linear's own start
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., O)."""
        if self.weight.dim() == 2:
            return F.linear(x, self.weight, self.bias)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


class FiLM(nn.Module):
    """(gamma(x) + 1) z + beta(x), with gamma and beta linear in what comes before z."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """From x of so many channels, for z of so many."""
        super().__init__()
        self.linear = Linear(inputs, 2 * outputs)
        start_small(self)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x (..., C), z (..., O) -> (..., O)."""
        gamma, beta = self.linear(x).chunk(2, -1)
        return (gamma + 1) * z + beta

    def maps(self, x: Tensor, z: Tensor) -> Tensor:
        """By x's means over pixels: (n, T*C, H, W), (n, T*O, H', W') -> (n, T*O, H', W')."""
        weight, means = self.linear.weight, x.mean((2, 3))
        if weight.dim() == 3:  # per-task parameters
            means = means.unflatten(1, (len(weight), -1)).transpose(0, 1)  # (T, n, C)
        gamma, beta = (fold_channels(part) for part in self.linear(means).chunk(2, -1))
        return (gamma + 1) * z + beta


def fold_channels(v: Tensor) -> Tensor:
    """Tasks into channels: (T, n, O) -> (n, T*O, 1, 1); (n, O) -> (n, O, 1, 1)."""
    return (v.transpose(0, 1).flatten(1) if v.dim() == 3 else v)[..., None, None]


def start_small(net: nn.Module) -> None:
    """Weights from N(0, 0.01^2), biases 0."""
    for p in net.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, 0, START)
        else:
            nn.init.zeros_(p)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """The cosine of every pair: (..., n, D), (..., N, D) -> (..., n, N)."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT


class CosineHead(nn.Module):
    """Logits are scaled cosines to a vector of each class; with weights (T, N, D) per task."""

    folds = True

    def __init__(self, inputs: int, outputs: int, scale: float = 10.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.scale = scale
        nn.init.normal_(self.weight)  # cosines see its direction only

    def forward(self, x: Tensor) -> Tensor:
        """(..., n, D) -> (..., n, N)."""
        return self.scale * cosines(x, self.weight)


HEADS = {"linear": Linear, "cosine": CosineHead}


def build_head(kind: str, features: int, outputs: int, flag: str) -> Linear | CosineHead:
    """A linear or a cosine classifier.

    Raises:
        UsageError: it is neither; `flag` names the setting.
    """
    if kind not in HEADS:
        raise UsageError(f"--{flag} {kind}: choose from {', '.join(HEADS)}")
    return HEADS[kind](features, outputs)

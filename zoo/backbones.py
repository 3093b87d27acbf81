"""Backbones: networks from an image to D features.

This is the plain reference implementation. Each built-in network also runs with *per-task*
parameters, tensors with a leading T: it then takes (T, n, *image) and folds the tasks into
channels (convolutions with groups = T), so that no task sees another's weights or statistics.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UsageError
from zoo.registry import backbones, parse_variant, register_backbone

BATCH_NORM_MODES = ("batch", "running", "support")
EPS, MOMENTUM = 1e-5, 0.1


class Conv3x3(nn.Module):
    """A 3x3 convolution with padding 1 and no bias (a batch norm follows)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.stride = stride
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # nn.Conv2d's own start

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, O, H', W'); with weights (T, O, C, 3, 3), (n, T*C, ...) likewise."""
        tasks = len(self.weight) if self.weight.dim() == 5 else 1
        weight = self.weight.reshape(-1, *self.weight.shape[-3:])
        return F.conv2d(x, weight, stride=self.stride, padding=1, groups=tasks)


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

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, ...) -> the same; with weights (T, C), (n, T*C, ...) -> the same."""
        weight, bias = self.weight.flatten(), self.bias.flatten()
        if self.mode == "support" and self.support_rows is not None:
            dims = [d for d in range(x.dim()) if d != 1]
            shape = [-1 if d == 1 else 1 for d in range(x.dim())]
            var, mean = torch.var_mean(x[: self.support_rows], dims, correction=0, keepdim=True)
            return (x - mean) * (var + EPS).rsqrt() * weight.view(shape) + bias.view(shape)
        if self.mode != "running" or (self.training and not self.track):
            return F.batch_norm(x, None, None, weight, bias, True, MOMENTUM, EPS)
        tasks = len(weight) // len(self.running_mean)
        mean, var = self.running_mean.repeat(tasks), self.running_var.repeat(tasks)
        out = F.batch_norm(x, mean, var, weight, bias, self.training, MOMENTUM, EPS)
        if self.training:
            self.running_mean.copy_(mean.view(tasks, -1).mean(0))
            self.running_var.copy_(var.view(tasks, -1).mean(0))
        return out


def set_batch_norm(net: nn.Module, mode: str) -> None:
    """Put every batch norm of a network into one of the three modes.

    Raises:
        UsageError: there is no such mode.
    """
    if mode not in BATCH_NORM_MODES:
        raise UsageError(f"batch_norm: no mode {mode!r}: choose from {', '.join(BATCH_NORM_MODES)}")
    for module in net.modules():
        if isinstance(module, BatchNorm):
            module.mode = mode


@contextmanager
def normalising(
    net: nn.Module, *, track: bool = True, support_rows: int | None = None
) -> Iterator[None]:
    """Say what a forward pass inside this block is, to the batch norms of `net`.

    Args:
        net: any network; those without our batch norm are left alone.
        track: whether running statistics move (not in inner steps).
        support_rows: in mode ``support``, how many rows of the batch, the first ones, are the
            support set; None means all.
    """
    norms = [module for module in net.modules() if isinstance(module, BatchNorm)]
    before = [(norm.track, norm.support_rows) for norm in norms]
    for norm in norms:
        norm.track, norm.support_rows = track, support_rows
    try:
        yield
    finally:
        for norm, (was_tracking, rows) in zip(norms, before, strict=True):
            norm.track, norm.support_rows = was_tracking, rows


class Linear(nn.Module):
    """An affine map; with weights (T, O, D) it takes (T, n, D)."""

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


class Backbone(nn.Module):
    """A network from images to features, and what is known of it before it runs."""

    features: int  # D
    family: str  # backbone_key of reports/published.csv
    folds = False  # whether it also runs with per-task parameters, all tasks at once


class ConvNet(Backbone):
    """Four convolution blocks."""

    folds = True
    family = "conv4"

    def __init__(self, image: tuple[int, int, int], channels: int, stride: int) -> None:
        super().__init__()
        inputs, size, width = image
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for _ in range(4):
            self.convs.append(Conv3x3(inputs, channels, stride))
            self.norms.append(BatchNorm(channels))
            inputs = channels
            size, width = (-(-side // 2) if stride == 2 else side // 2 for side in (size, width))
        self.pooled = stride == 1
        self.features = channels * size * width if self.pooled else channels

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, D); with per-task parameters (T, n, *image) -> (T, n, D)."""
        tasks = x.shape[0] if x.dim() == 5 else 0
        if tasks:
            x = x.transpose(0, 1).flatten(1, 2)  # (n, T*C, H, W)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x))
            # ReLU and maximum commute: pooled first, ReLU sees a quarter of the map.
            x = F.relu(F.max_pool2d(x, 2) if self.pooled else x)
        if not self.pooled:
            x = x.mean((2, 3))
        return x.unflatten(1, (tasks, -1)).transpose(0, 1).flatten(2) if tasks else x.flatten(1)


@register_backbone("conv4")
def conv4(image: tuple[int, int, int], channels: int = 64) -> Backbone:
    """Four blocks of 3x3 convolution, batch norm, ReLU, 2x2 max-pool (Snell 2017)."""
    if min(image[1:]) < 16:
        raise UsageError(f"conv4 halves an image four times: {image[1:]} is smaller than 16x16")
    return ConvNet(image, channels, stride=1)


@register_backbone("conv4_strided")
def conv4_strided(image: tuple[int, int, int], channels: int = 64) -> Backbone:
    """Four blocks of 3x3 stride-2 convolution, batch norm, ReLU; then a mean (Finn 2017)."""
    return ConvNet(image, channels, stride=2)


class Classifier(nn.Module):
    """A backbone and a linear head, as learners with one logit a way have it."""

    def __init__(self, backbone: nn.Module, way: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Linear(backbone.features, way)  # type: ignore[arg-type]
        self.folds = getattr(backbone, "folds", False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> logits (n, N); with per-task parameters (T, n, *image) -> (T, n, N)."""
        return self.head(self.backbone(x))


def build_backbone(text: str, image: tuple[int, int, int]) -> Backbone:
    """The backbone that a variant text such as ``conv4[channels=32]`` names, for `image`.

    Raises:
        UsageError: there is no such backbone, or it has no such option.
    """
    key, options = parse_variant(text)
    build = backbones.get(key)
    known = list(build.__annotations__)[1:-1]
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"backbone {text}: no option {name!r}; it has {known}")
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"backbone {text}: {name} must be a whole number of at least 1")
    return build(image, **options)


backbones.scan("zoo", [__file__.rpartition("/")[0]])

"""Backbones: networks from an image to D features."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UsageError
from zoo.networks import second_derivatives
from zoo.networks.layers import BatchNorm, Conv, Fixed, block, fold, unfold
from zoo.registry import backbones, parse_variant, register_backbone


class Backbone(nn.Module):
    """A network from images to features, and what is known of it before it runs."""

    features: int  # D
    family: str  # backbone_key of reports/published.csv
    folds = False  # whether it also runs with per-task parameters, all tasks at once
    fixed: Fixed | None = None  # set by `batch_norm_context`

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, D); with per-task parameters (T, n, *image) -> (T, n, D)."""
        fixed = self.fixed if self.fixed is not None and self.fixed.are(x) else None
        maps = self.maps(fixed.pixels if fixed else fold(x), fixed)
        return unfold(maps, x).flatten(-3)

    def maps(self, x: Tensor, fixed: Fixed | None) -> Tensor:
        """(n, T*C, H, W) -> (n, T*O, H', W'); `fixed` is x where it is known as fixed data."""
        raise NotImplementedError


@contextmanager
def batch_norm_context(
    net: nn.Module,
    *,
    track: bool = True,
    support_rows: int | None = None,
    fixed: Fixed | None = None,
) -> Iterator[None]:
    """Say what a forward pass inside this block is, to our layers in `net`.

    Args:
        net: any network; layers that are not ours are left alone.
        track: whether running statistics move (not in inner steps).
        support_rows: in batch-norm mode ``support``, how many rows of the batch, the first ones,
            are the support set; None means all.
        fixed: images that enter more than once: what needs computing only once of them is.
    """
    norms = [module for module in net.modules() if isinstance(module, BatchNorm)]
    nets = [module for module in net.modules() if isinstance(module, Backbone)]
    before = [(norm.track, norm.support_rows) for norm in norms]
    for norm in norms:
        norm.track, norm.support_rows = track, support_rows
    outside = [backbone.fixed for backbone in nets]
    for backbone in nets:
        backbone.fixed = fixed
    try:
        yield
    finally:
        for norm, (was_tracking, rows) in zip(norms, before, strict=True):
            norm.track, norm.support_rows = was_tracking, rows
        for backbone, was in zip(nets, outside, strict=True):
            backbone.fixed = was


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


class BlockNet(Backbone):
    """A network of blocks of convolutions; a learner may run some of them alone."""

    folds = True
    depth = 4
    widths: tuple[int, ...]  # C of each block's output

    def __init__(self) -> None:
        super().__init__()
        self.after = (
            nn.ModuleDict()
        )  # by number, what follows a block (zoo.methods.preconditioners)

    def layers(self, number: int) -> list[tuple[Conv, BatchNorm]]:
        """The convolutions of a block, each with its norm."""
        raise NotImplementedError

    def block(self, number: int, x: Tensor, fixed: Fixed | None) -> Tensor:
        """One block by itself."""
        raise NotImplementedError

    def run(self, x: Tensor, fixed: Fixed | None = None, blocks: slice = slice(None)) -> Tensor:
        """The asked blocks, one upon the other: (n, T*C, H, W) -> (n, T*O, H', W')."""
        for number in range(self.depth)[blocks]:
            x = self.block(number, x, fixed)
            x = self.after[str(number)](x) if str(number) in self.after else x
            fixed = None
        return x


class ConvNet(BlockNet):
    """Four convolution blocks."""

    family = "conv4"

    def __init__(self, image: tuple[int, int, int], channels: int, stride: int, mean: bool) -> None:
        super().__init__()
        inputs, size, width = image
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for _ in range(4):
            self.convs.append(Conv(inputs, channels, stride=stride))
            self.norms.append(BatchNorm(channels))
            inputs = channels
            size, width = (-(-side // 2) if stride == 2 else side // 2 for side in (size, width))
        self.pooled, self.widths, self.mean = stride == 1, (channels,) * 4, mean
        self.features = channels if mean else channels * size * width

    def layers(self, number: int) -> list[tuple[Conv, BatchNorm]]:
        """The one convolution, and its norm."""
        return [(self.convs[number], self.norms[number])]  # type: ignore[list-item]

    def block(self, number: int, x: Tensor, fixed: Fixed | None) -> Tensor:
        """Convolution, batch norm, ReLU; a pool where no stride halves the image."""
        return block(x, *self.layers(number)[0], pool=self.pooled, fixed=fixed)

    def maps(self, x: Tensor, fixed: Fixed | None) -> Tensor:
        """Four blocks; a mean over pixels where one was asked for."""
        x = self.run(x, fixed)
        return x.mean((2, 3), keepdim=True) if self.mean else x


@register_backbone("conv4")
def conv4(image: tuple[int, ...], channels: int = 64) -> Backbone:
    """Four blocks of 3x3 convolution, batch norm, ReLU, 2x2 max-pool (Snell 2017)."""
    return ConvNet(checked_image_shape("conv4", image, 16), channels, stride=1, mean=False)


@register_backbone("conv4_mean")
def conv4_mean(image: tuple[int, ...], channels: int = 64) -> Backbone:
    """Conv4, then a mean over pixels (NPBML's code, arXiv 2406.07983)."""
    return ConvNet(checked_image_shape("conv4_mean", image, 16), channels, stride=1, mean=True)


@register_backbone("conv4_strided")
def conv4_strided(image: tuple[int, ...], channels: int = 64) -> Backbone:
    """Four blocks of 3x3 stride-2 convolution, batch norm, ReLU; then a mean (Finn 2017)."""
    return ConvNet(checked_image_shape("conv4_strided", image, 1), channels, stride=2, mean=True)


def checked_image_shape(name: str, image: tuple[int, ...], least: int) -> tuple[int, int, int]:
    """(C, H, W), of at least so many pixels a side."""
    if len(image) != 3:
        raise UsageError(f"backbone {name}: needs images, but an input has shape {image}; use mlp")
    if min(image[1:]) < least:
        raise UsageError(f"{name} halves an image four times: {image[1:]} is smaller than 16x16")
    return image


class ResidualBlock(nn.Module):
    """Three convolutions, a 1x1 shortcut, a max-pool or none."""

    def __init__(self, inputs: int, outputs: int, pool: bool = True) -> None:
        super().__init__()
        sizes = [(inputs, 3), (outputs, 3), (outputs, 3), (inputs, 1)]
        self.convs = nn.ModuleList([Conv(i, outputs, size=size) for i, size in sizes])
        self.norms = nn.ModuleList([BatchNorm(outputs) for _ in sizes])
        self.pooled = pool

    def layers(self) -> list[tuple[Conv, BatchNorm]]:
        """Each convolution with its norm."""
        return list(zip(self.convs, self.norms, strict=True))  # type: ignore[arg-type]

    def forward(self, x: Tensor, fixed: Fixed | None = None) -> Tensor:
        """(n, T*C, H, W) -> (n, T*O, H/2, W/2); (n, T*O, H, W) without a pool."""
        layers = self.layers()
        residual = block(x, *layers[3], relu=False, fixed=fixed)
        for number, layer in enumerate(layers[:3]):
            x = block(x, *layer, relu=number < 2, fixed=fixed)
            fixed = None
        x = x + residual
        return F.relu(second_derivatives.max_pool(x) if self.pooled else x)


class ResNet12(BlockNet):
    """Four residual blocks, then a mean over pixels."""

    family = "resnet12"

    def __init__(self, image: tuple[int, int, int], widths: tuple[int, ...]) -> None:
        super().__init__()
        inputs = (image[0], *widths[:-1])
        self.blocks: Any = nn.ModuleList(map(ResidualBlock, inputs, widths))
        self.features, self.widths = widths[-1], widths

    def layers(self, number: int) -> list[tuple[Conv, BatchNorm]]:
        """The three on the path, and the shortcut's."""
        return self.blocks[number].layers()

    def block(self, number: int, x: Tensor, fixed: Fixed | None) -> Tensor:
        """One residual block."""
        return self.blocks[number](x, fixed)

    def maps(self, x: Tensor, fixed: Fixed | None) -> Tensor:
        """Four residual blocks, then a mean over pixels."""
        return self.run(x, fixed).mean((2, 3), keepdim=True)


@register_backbone("resnet12")
def resnet12(image: tuple[int, ...], channels: int = 64) -> Backbone:
    """ResNet-12 with ReLU, of c, 2c, 4c, 8c channels (NPBML's code, arXiv 2406.07983)."""
    return _resnet12(image, (channels, 2 * channels, 4 * channels, 8 * channels))


@register_backbone("resnet12_wide")
def resnet12_wide(image: tuple[int, ...]) -> Backbone:
    """ResNet-12 with ReLU, of 64, 160, 320, 640 channels (MetaOptNet's widths)."""
    return _resnet12(image, (64, 160, 320, 640))


def _resnet12(image: tuple[int, ...], widths: tuple[int, ...]) -> Backbone:
    return ResNet12(checked_image_shape("resnet12", image, 16), widths)


class MLP(Backbone):
    """Fully connected layers, each with a ReLU behind it."""

    folds = True
    family = "mlp"

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        sizes = [inputs, *[width] * depth]
        self.layers = nn.ModuleList(map(Linear, sizes, sizes[1:]))
        self.inputs, self.features = inputs, width

    def forward(self, x: Tensor) -> Tensor:
        """(n, *input) -> (n, D); with per-task parameters (T, n, *input) -> (T, n, D)."""
        x = x.flatten(next(self.parameters()).dim() - 1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


@register_backbone("mlp")
def mlp(image: tuple[int, ...], width: int = 40, depth: int = 2) -> Backbone:
    """Fully connected layers with ReLU (Finn 2017 has 40-40 for sinusoids)."""
    return MLP(math.prod(image), width, depth)


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


def build_backbone(text: str, image: tuple[int, ...]) -> Backbone:
    """The backbone that a variant text such as ``conv4[channels=32]`` names, for `image`.

    Raises:
        UsageError: there is no such backbone, it has no such option, or is not for such inputs.
    """
    key, options = parse_variant(text)
    build = backbones.get(key)
    known = list(inspect.signature(build).parameters)[1:]
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"backbone {text}: no option {name!r}; it has {known}")
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"backbone {text}: {name} must be a whole number of at least 1")
    return build(image, **options)


backbones.scan("zoo", [__file__.rpartition("/")[0]])

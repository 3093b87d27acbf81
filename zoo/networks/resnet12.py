"""ResNet-12: four residual blocks of three convolutions, then a mean over pixels."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.batch_norm import BatchNorm
from zoo.networks import second_derivatives
from zoo.networks.backbone import Backbone, BlockNet, checked_image_shape
from zoo.networks.layers import Conv, FixedImages, block
from zoo.registry import register_backbone


class ResidualBlock(nn.Module):
    """Three convolutions, a 1x1 shortcut, and a max-pool if asked for."""

    def __init__(self, inputs: int, outputs: int, pool: bool = True) -> None:
        super().__init__()
        # Channels that come in, and kernel size; the last is the shortcut.
        sizes = [(inputs, 3), (outputs, 3), (outputs, 3), (inputs, 1)]
        self.convs = nn.ModuleList([Conv(i, outputs, size=size) for i, size in sizes])
        self.norms = nn.ModuleList([BatchNorm(outputs) for _ in sizes])
        self.pooled = pool

    def layers(self) -> list[tuple[Conv, BatchNorm]]:
        """Each convolution with its norm; the shortcut is the last."""
        return list(zip(self.convs, self.norms, strict=True))  # type: ignore[arg-type]

    def forward(self, x: Tensor, fixed: FixedImages | None = None) -> Tensor:
        """(n, T*C, H, W) -> (n, T*O, H/2, W/2); (n, T*O, H, W) without a pool."""
        *path, shortcut = self.layers()
        residual = block(x, *shortcut, relu=False, fixed=fixed)
        for number, layer in enumerate(path):
            x = block(x, *layer, relu=number < 2, fixed=fixed)
            fixed = None  # only the first convolution sees the images
        x = x + residual
        return F.relu(second_derivatives.max_pool(x) if self.pooled else x)


class ResNet12(BlockNet):
    """Four residual blocks, then a mean over pixels."""

    family = "resnet12"

    def __init__(self, image: tuple[int, int, int], widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = pairwise((image[0], *widths))
        self.blocks: Any = nn.ModuleList([ResidualBlock(i, o) for i, o in sizes])
        self.features = widths[-1]
        self.widths = widths

    def layers(self, number: int) -> list[tuple[Conv, BatchNorm]]:
        """The block's three convolutions and its shortcut, each with its norm."""
        return self.blocks[number].layers()

    def block(self, number: int, x: Tensor, fixed: FixedImages | None) -> Tensor:
        """Run one residual block."""
        return self.blocks[number](x, fixed)

    def maps(self, x: Tensor, fixed: FixedImages | None) -> Tensor:
        """Four residual blocks, then a mean over pixels."""
        return self.run(x, fixed).mean((2, 3), keepdim=True)


@register_backbone("resnet12")
def resnet12(image: tuple[int, ...], channels: int = 64) -> Backbone:
    """ResNet-12 with ReLU and c, 2c, 4c, 8c channels (NPBML's code, arXiv 2406.07983)."""
    return _resnet12(image, (channels, 2 * channels, 4 * channels, 8 * channels))


@register_backbone("resnet12_wide")
def resnet12_wide(image: tuple[int, ...]) -> Backbone:
    """ResNet-12 with ReLU and 64, 160, 320, 640 channels (MetaOptNet's widths)."""
    return _resnet12(image, (64, 160, 320, 640))


def _resnet12(image: tuple[int, ...], widths: tuple[int, ...]) -> Backbone:
    return ResNet12(checked_image_shape("resnet12", image, 16), widths)

"""The residual network that SNAIL embeds mini-ImageNet's images with (Mishra et al. 2018)."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.batch_norm import BatchNorm
from zoo.networks.backbone import Backbone, checked_image_shape
from zoo.networks.layers import Conv, Linear, block, fold
from zoo.registry import register_backbone

WIDTHS = (64, 96, 128, 256)
WIDE = 2048
FEATURES = 384
KEEP = 0.9  # printed as "dropout 0.9", but dropping nine of ten would leave nothing to learn from


class LeakyBlock(nn.Module):
    """Three convolutions with leaky ReLU, a 1x1 shortcut, a max-pool, dropout."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        sizes = [inputs, outputs, outputs]
        self.convs = nn.ModuleList([Conv(size, outputs) for size in sizes])
        self.norms = nn.ModuleList([BatchNorm(outputs) for _ in sizes])
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, O, H/2, W/2), odd sides rounded up."""
        residual = self.shortcut(x)
        layers: Iterator[Any] = zip(self.convs, self.norms, strict=True)
        for conv, norm in layers:
            x = F.leaky_relu(block(x, conv, norm, relu=False), 0.1)
        # Rounds up, because the paper ends with 6x6 pixels for 84x84.
        x = F.max_pool2d(x + residual, 2, ceil_mode=True)
        return F.dropout(x, 1 - KEEP, self.training)


class SnailResNet(Backbone):
    """Four residual blocks, 2048 channels averaged over pixels, 384 features."""

    family = "resnet_snail"
    features = FEATURES

    def __init__(self, image: tuple[int, int, int]) -> None:
        super().__init__()
        sizes = pairwise((image[0], *WIDTHS))
        self.blocks = nn.Sequential(*(LeakyBlock(i, o) for i, o in sizes))
        self.wide = Linear(WIDTHS[-1], WIDE)
        self.out = Linear(WIDE, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, 384).

        The paper's two 1x1 convolutions are linear maps here: the first may as well come after the
        mean over pixels, and the second sees one pixel.
        """
        x = F.relu(self.wide(self.blocks(fold(x)).mean((2, 3))))
        return self.out(F.dropout(x, 1 - KEEP, self.training))


@register_backbone("resnet_snail")
def resnet_snail(image: tuple[int, ...]) -> Backbone:
    """Four residual blocks of 64, 96, 128, 256 channels and 384 features (Mishra 2018)."""
    return SnailResNet(checked_image_shape("resnet_snail", image, 1))

"""The residual embedding of SNAIL's mini-ImageNet (Mishra et al. 2018)."""

from collections.abc import Iterator
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
KEEP = 0.9  # printed as "dropout 0.9"; dropping nine of ten would leave nothing to learn from


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
        # Rounded up, because 84 pixels must become the 6 that the paper then averages.
        x = F.max_pool2d(x + residual, 2, ceil_mode=True)
        return F.dropout(x, 1 - KEEP, self.training)


class SnailResNet(Backbone):
    """Four residual blocks, 2048 channels averaged over pixels, 384 features."""

    family = "resnet_snail"
    features = FEATURES

    def __init__(self, image: tuple[int, int, int]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*map(LeakyBlock, (image[0], *WIDTHS[:-1]), WIDTHS))
        self.wide = Linear(WIDTHS[-1], WIDE)
        self.out = Linear(WIDE, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, 384).

        The paper's two 1x1 convolutions are linear maps here: the mean over pixels commutes with
        the first, and leaves one pixel to the second.
        """
        x = F.relu(self.wide(self.blocks(fold(x)).mean((2, 3))))
        return self.out(F.dropout(x, 1 - KEEP, self.training))


@register_backbone("resnet_snail")
def resnet_snail(image: tuple[int, ...]) -> Backbone:
    """Four residual blocks of 64, 96, 128, 256 channels and 384 features (Mishra 2018)."""
    return SnailResNet(checked_image_shape("resnet_snail", image, 1))

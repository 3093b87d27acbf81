"""Convolutions without batch norm: MetaNet's own network (Munkhdalai & Yu 2017, section 4)."""

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.networks.backbone import Backbone, checked_image_shape
from zoo.networks.layers import Conv, FixedImages
from zoo.registry import register_backbone

DEPTH = 5


class PlainConvNet(Backbone):
    """Blocks of convolution, ReLU and max-pool, without batch norm and without biases."""

    folds = True
    family = "conv5"

    def __init__(self, image: tuple[int, int, int], channels: int, depth: int) -> None:
        super().__init__()
        self.image, self.channels, self.depth = image, channels, depth
        sizes = [image[0], *[channels] * depth]
        self.convs = nn.ModuleList([Conv(c, o) for c, o in pairwise(sizes)])
        height, width = (math.ceil(side / 2**depth) for side in image[1:])
        self.shape = (sizes[-1], height, width)  # of the last maps
        self.features = sizes[-1] * height * width

    def maps(self, x: Tensor, fixed: FixedImages | None) -> Tensor:
        """All blocks; pooling keeps an odd last row or column."""
        for conv in self.convs:
            x = F.max_pool2d(F.relu(conv(x)), 2, ceil_mode=True)
        return x

    def shortened(self, blocks: int) -> "PlainConvNet":
        """The same network without its last `blocks` blocks, with fresh weights."""
        return PlainConvNet(self.image, self.channels, self.depth - blocks)


@register_backbone("conv5")
def conv5(image: tuple[int, ...], channels: int = 64) -> Backbone:
    """Five blocks of 3x3 convolution, ReLU, 2x2 max-pool, without batch norm (Munkhdalai 2017)."""
    return PlainConvNet(checked_image_shape("conv5", image, 1), channels, DEPTH)

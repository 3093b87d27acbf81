"""Backbones without anything to learn: their features are the pixels."""

import math

from torch import Tensor
from torch.nn import functional as F

from zoo.networks.backbone import Backbone, checked_image_shape
from zoo.registry import register_backbone


class Pixels(Backbone):
    """The pixels as features."""

    family = "pixels"

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, D)."""
        return x.flatten(1)


@register_backbone("pixels")
def pixels(image: tuple[int, ...]) -> Backbone:
    """The pixels as they are: nothing to learn."""
    return Pixels(math.prod(image))


class Pixels20(Backbone):
    """The pixels of the image shrunk to 20x20, as features."""

    family = "lstm_memory"  # the published networks that read these pixels are listed under it

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = channels * 20 * 20

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, D)."""
        return F.interpolate(x, size=(20, 20), mode="area").flatten(1)


@register_backbone("pixels20")
def pixels20(image: tuple[int, ...]) -> Backbone:
    """The pixels of the image shrunk to 20x20 by means over areas (Santoro 2016)."""
    return Pixels20(checked_image_shape("pixels20", image, 1)[0])

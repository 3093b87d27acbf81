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


class ShrunkPixels(Backbone):
    """The pixels of the image shrunk by means over areas, as features."""

    def __init__(self, channels: int, side: int, family: str) -> None:
        super().__init__()
        self.side, self.family = side, family
        self.features = channels * side * side

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, D)."""
        return F.interpolate(x, size=(self.side, self.side), mode="area").flatten(1)


@register_backbone("pixels20")
def pixels20(image: tuple[int, ...]) -> Backbone:
    """The pixels of the image shrunk to 20x20 by means over areas (Santoro 2016)."""
    # The published networks that read these pixels are listed under this family.
    return ShrunkPixels(checked_image_shape("pixels20", image, 1)[0], 20, "lstm_memory")


@register_backbone("pixels14")
def pixels14(image: tuple[int, ...]) -> Backbone:
    """The pixels of the image shrunk to 14x14 by means over areas."""
    return ShrunkPixels(checked_image_shape("pixels14", image, 1)[0], 14, "pixels")

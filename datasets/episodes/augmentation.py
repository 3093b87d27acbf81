"""Augmentation of a batch of images on its device, each image by numbers of its own.

In plain PyTorch, after torchvision's RandomResizedCrop(scale=(0.08, 1)), ColorJitter(0.4, 0.4, 0.4)
and RandomHorizontalFlip. Ours differs from it in that a crop that would not fit is cut to the
image instead of drawn again, the jitters come in one order (brightness, contrast, saturation), and
all numbers are of our own hash, so that they are the same on every device.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zoo.datasets.episodes.hash_random import derive, uniform
from zoo.datasets.episodes.resize import enlarged
from zoo.errors import UsageError

AUGMENTATIONS = ("crop", "jitter", "flip")
NUMBERS = 8  # uniform ones for each image: four of the crop, three jitters, a flip
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
STRENGTH = 0.4
GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as torchvision


def parse_augmentations(text: str) -> list[str]:
    """``"crop flip"`` as a list.

    Raises:
        UsageError: an augmentation that there is not.
    """
    for word in text.split():
        if word not in AUGMENTATIONS:
            raise UsageError(
                f"augmentation {word!r}: choose from {', '.join(AUGMENTATIONS)}, or none of it"
            )
    return text.split()


def augment(
    x: Tensor, ways: list[str], key: NDArray[np.uint64], size: Sequence[int] = ()
) -> Tensor:
    """Pixels of 0 to 255 -> float, likewise: (n, C, h, w) -> (n, C, H, W).

    Args:
        x: as stored.
        ways: see `AUGMENTATIONS`.
        key: (1,), which the random numbers follow from.
        size: (H, W), what a crop is enlarged to, or else the whole image; empty: (h, w).
    """
    numbers = uniform(derive(key, np.arange(len(x), dtype=np.uint64)), NUMBERS)
    u = torch.from_numpy(numbers).float().to(x.device)
    size = size or x.shape[-2:]
    x = crop(x.float(), u[:, :4], size) if "crop" in ways else enlarged(x, size).float()
    if "flip" in ways:
        x = torch.where((u[:, 7] < 0.5).view(-1, 1, 1, 1), x.flip(-1), x)
    return jitter(x, u[:, 4:7]) if "jitter" in ways else x


def crop(x: Tensor, u: Tensor, size: Sequence[int]) -> Tensor:
    """A random part of each image, of random area and shape, in the size asked for.

    (n, C, h, w), u (n, 4) in [0, 1) -> (n, C, *size)
    """
    return resized(x, *boxes(u, x.shape[-1] / x.shape[-2]), size)


def boxes(u: Tensor, aspect: float) -> tuple[Tensor, Tensor]:
    """Corner (x, y) and extent (width, height) of each crop, as shares of the image: (n, 2) each.

    Args:
        u: (n, 4) in [0, 1).
        aspect: width of the image over its height.
    """
    area = AREA[0] + (AREA[1] - AREA[0]) * u[:, 0]
    low, high = map(math.log, RATIO)
    ratio = (low + (high - low) * u[:, 1]).exp() / aspect  # of width over height, in shares
    extent = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], -1).clamp(max=1)
    return (1 - extent) * u[:, 2:4], extent


def resized(x: Tensor, corner: Tensor, extent: Tensor, size: Sequence[int]) -> Tensor:
    """The parts of the images, by bilinear interpolation, in the size asked for."""
    theta = torch.diag_embed(extent)
    centre = 2 * corner + extent - 1  # in grid_sample's coordinates, -1 to 1
    grid = F.affine_grid(torch.cat([theta, centre.unsqueeze(-1)], -1), [*x.shape[:2], *size], False)
    return F.grid_sample(x, grid, "bilinear", "border", align_corners=False)


def jitter(x: Tensor, u: Tensor) -> Tensor:
    """Brightness, contrast and (in colour) saturation, each times 0.6 to 1.4.

    (n, C, H, W) of 0 to 255, u (n, 3) in [0, 1) -> the same
    """
    by = (1 - STRENGTH + 2 * STRENGTH * u).T[..., None, None, None]  # (3, n, 1, 1, 1)
    x = (x * by[0]).clamp(0, 255)
    x = blend(x, grey(x).mean((1, 2, 3), keepdim=True), by[1])
    return blend(x, grey(x), by[2]) if x.shape[1] == 3 else x


def blend(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """share * x + (1 - share) * other, as pixels."""
    return (other + share * (x - other)).clamp(0, 255)


def grey(x: Tensor) -> Tensor:
    """(n, C, H, W) -> (n, 1, H, W)."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)

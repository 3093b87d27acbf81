"""Augmentation of a batch of images on its device, each image by numbers of its own.

In plain PyTorch, after torchvision's RandomResizedCrop(scale=(0.08, 1)), ColorJitter(0.4, 0.4, 0.4)
and RandomHorizontalFlip, which Chen et al. 2019 (A Closer Look at Few-shot Classification, authors'
code) take in every training, and RandomCrop with padding (`shift`), which Lee et al. 2019
(MetaOptNet, authors' code) take instead of the resized crop: of 32 pixels padded by 4, of 84 by 8.
Ours differs in that a resized crop that would not fit is cut to the image instead of drawn again, a
shift is padded by reflection instead of black, the jitters come in one order (brightness, contrast,
saturation), and all numbers are of our own hash, so that they are the same on every device.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zoo.datasets.episodes.hash_random import Floats, derive, uniform
from zoo.datasets.episodes.resize import at_size
from zoo.errors import UsageError

AUGMENTATIONS = ("crop", "shift", "jitter", "flip")
NUMBERS = 10  # uniform ones for each image: four of the crop, three jitters, a flip, two shifts
SMALL_SHIFT, LARGE_SHIFT = 4, 8  # pixels, of images of 32 and of 84
LARGE_SIDE = 64  # pixels of the shorter side, from which on the second holds
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
STRENGTH = 0.4
GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as torchvision


def parse_augmentations(text: str, setting: str) -> list[str]:
    """``"crop flip"`` as a list.

    Args:
        text: words of `AUGMENTATIONS`, or nothing.
        setting: where it is from, such as ``augment``.

    Raises:
        UsageError: an augmentation that there is not.
    """
    for word in text.split():
        if word not in AUGMENTATIONS:
            raise UsageError(
                f"--{setting} {text!r}: {word!r} is no augmentation; choose from "
                f"{', '.join(AUGMENTATIONS)}, several with spaces between them, or nothing"
            )
    return text.split()


def numbers_for(keys: NDArray[np.uint64], n: int) -> Floats:
    """What the augmentation of n images of each key follows from: (T,) -> (T*n, NUMBERS).

    Uniform numbers in [0, 1); those of an image do not depend on how many others there are.
    """
    each = derive(keys[:, None], np.arange(n, dtype=np.uint64))
    return uniform(each.ravel(), NUMBERS)


def augment(x: Tensor, ways: list[str], numbers: Floats, size: Sequence[int] = ()) -> Tensor:
    """Pixels of 0 to 255 -> float, likewise: (n, C, h, w) -> (n, C, H, W).

    Args:
        x: as stored.
        ways: see `AUGMENTATIONS`.
        numbers: (n, NUMBERS), from `numbers_for`.
        size: (H, W), what a crop is resized to, or else the whole image; empty: (h, w). Larger
            images are shrunk first, so that a crop passes over none of their pixels.
    """
    u = torch.from_numpy(numbers).float().to(x.device)
    size = size or x.shape[-2:]
    if "crop" not in ways or x.shape[-2] > size[0]:
        x = at_size(x, size)
    if "crop" in ways:
        x = crop(x.float(), u[:, :4], size)
    if "shift" in ways:
        x = shifted(x, u[:, 8:])
    x = x.float()
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


def shifted(x: Tensor, u: Tensor) -> Tensor:
    """Each image moved by 0 to `SMALL_SHIFT` pixels up or down, and left or right.

    By up to `LARGE_SHIFT`, where the shorter side has `LARGE_SIDE` or more. What comes in at an
    edge is mirrored there.

    Args:
        x: (n, C, H, W).
        u: (n, 2) in [0, 1].
    """
    height, width = x.shape[-2:]
    side = min(height, width)
    most = min(SMALL_SHIFT if side < LARGE_SIDE else LARGE_SHIFT, side - 1)
    by = (u * (2 * most + 1)).long().clamp(max=2 * most) - most  # (n, 2)
    rows = mirrored(torch.arange(height, device=x.device) + by[:, :1], height)
    columns = mirrored(torch.arange(width, device=x.device) + by[:, 1:], width)
    image = torch.arange(len(x), device=x.device).view(-1, 1, 1, 1)
    channel = torch.arange(x.shape[1], device=x.device).view(-1, 1, 1)
    return x[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def mirrored(place: Tensor, size: int) -> Tensor:
    """Places of a line of `size` pixels; those beyond an end are mirrored at its last pixel."""
    return (size - 1) - ((size - 1) - place.abs()).abs()


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

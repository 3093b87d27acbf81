"""Augmentation of a batch of images on its device; each image has its own random numbers.

`crop`, `jitter` and `flip` follow torchvision's RandomResizedCrop(scale=(0.08, 1)),
ColorJitter(0.4, 0.4, 0.4) and RandomHorizontalFlip, which Chen et al. 2019 (A Closer Look at
Few-shot Classification, authors' code) use in every training. `shift` follows RandomCrop with
padding, which Lee et al. 2019 (MetaOptNet, authors' code) use instead of the resized crop: images
of 32 pixels padded by 4, of 84 by 8.

Differences from torchvision: a resized crop that does not fit is cut to the image, not drawn again;
a shift is padded by reflection, not black; the jitters have a fixed order (brightness, contrast,
saturation); and the random numbers are of our own hash, the same on every device.
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
NUMBERS = 10  # random numbers for each image: crop 0-3, jitter 4-6, flip 7, shift 8-9
SMALL_SHIFT, LARGE_SHIFT = 4, 8  # pixels; the large one where the shorter side has LARGE_SIDE
LARGE_SIDE = 64
AREA = (0.08, 1.0)  # of a crop, as a share of the image
RATIO = (3 / 4, 4 / 3)  # width over height of a crop
STRENGTH = 0.4  # of the jitter: factors are from 0.6 to 1.4
GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as torchvision


def parse_augmentations(text: str, setting: str) -> list[str]:
    """``"crop flip"`` as a list.

    Args:
        text: words of `AUGMENTATIONS`, or nothing.
        setting: its name, for messages, such as ``augment``.

    Raises:
        UsageError: an unknown augmentation.
    """
    for word in text.split():
        if word not in AUGMENTATIONS:
            raise UsageError(
                f"--{setting} {text!r}: {word!r} is no augmentation; choose from "
                f"{', '.join(AUGMENTATIONS)}, several with spaces between them, or nothing"
            )
    return text.split()


def numbers_for(keys: NDArray[np.uint64], n: int) -> Floats:
    """Random numbers in [0, 1) to augment n images for each key: (T,) -> (T*n, NUMBERS).

    The numbers of an image do not depend on how many others there are.
    """
    image_keys = derive(keys[:, None], np.arange(n, dtype=np.uint64))
    return uniform(image_keys.ravel(), NUMBERS)


def augment(x: Tensor, names: list[str], numbers: Floats, size: Sequence[int] = ()) -> Tensor:
    """Augment and resize images: pixels (n, C, h, w) of 0 to 255 -> float (n, C, H, W), 0 to 255.

    Args:
        x: as stored.
        names: of `AUGMENTATIONS`.
        numbers: (n, NUMBERS), from `numbers_for`.
        size: (H, W); empty: (h, w). Images larger than that are shrunk before they are cropped, so
            that the crop's bilinear interpolation skips none of their pixels.
    """
    u = torch.from_numpy(numbers).float().to(x.device)
    size = size or x.shape[-2:]
    if "crop" not in names or x.shape[-2] > size[0]:
        x = at_size(x, size)
    if "crop" in names:
        x = crop(x.float(), u[:, :4], size)
    if "shift" in names:
        x = shifted(x, u[:, 8:])
    x = x.float()
    if "flip" in names:
        x = torch.where((u[:, 7] < 0.5).view(-1, 1, 1, 1), x.flip(-1), x)
    return jitter(x, u[:, 4:7]) if "jitter" in names else x


def crop(x: Tensor, u: Tensor, size: Sequence[int]) -> Tensor:
    """A random part of each image, of random area and shape, resized.

    (n, C, h, w), u (n, 4) in [0, 1) -> (n, C, *size)
    """
    return resized(x, *boxes(u, x.shape[-1] / x.shape[-2]), size)


def boxes(u: Tensor, aspect: float) -> tuple[Tensor, Tensor]:
    """Corner (x, y) and size (width, height) of each crop, as shares of the image: (n, 2) each.

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
    """These parts of the images, resized by bilinear interpolation.

    (n, C, h, w), corner and extent (n, 2) as of `boxes` -> (n, C, *size)
    """
    theta = torch.diag_embed(extent)
    centre = 2 * corner + extent - 1  # in grid_sample's coordinates, -1 to 1
    grid = F.affine_grid(torch.cat([theta, centre.unsqueeze(-1)], -1), [*x.shape[:2], *size], False)
    return F.grid_sample(x, grid, "bilinear", "border", align_corners=False)


def shifted(x: Tensor, u: Tensor) -> Tensor:
    """Each image moved by up to `SMALL_SHIFT` pixels up or down, and left or right.

    Images whose shorter side has `LARGE_SIDE` pixels or more are moved by up to `LARGE_SHIFT`. The
    pixels that come in at an edge are mirrored there.

    Args:
        x: (n, C, H, W).
        u: (n, 2) in [0, 1].
    """
    height, width = x.shape[-2:]
    side = min(height, width)
    most = min(SMALL_SHIFT if side < LARGE_SIDE else LARGE_SHIFT, side - 1)
    shift = (u * (2 * most + 1)).long().clamp(max=2 * most) - most  # (n, 2), -most to most
    rows = mirrored(torch.arange(height, device=x.device) + shift[:, :1], height)
    columns = mirrored(torch.arange(width, device=x.device) + shift[:, 1:], width)
    image = torch.arange(len(x), device=x.device).view(-1, 1, 1, 1)
    channel = torch.arange(x.shape[1], device=x.device).view(-1, 1, 1)
    return x[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def mirrored(place: Tensor, size: int) -> Tensor:
    """Places on a line of `size` pixels; places beyond an end are mirrored at the end's pixel."""
    return (size - 1) - ((size - 1) - place.abs()).abs()


def jitter(x: Tensor, u: Tensor) -> Tensor:
    """Multiply brightness, contrast and, in colour, saturation by factors of 0.6 to 1.4.

    (n, C, H, W) of 0 to 255, u (n, 3) in [0, 1) -> the same
    """
    factors = (1 - STRENGTH + 2 * STRENGTH * u).T[..., None, None, None]  # (3, n, 1, 1, 1)
    x = (x * factors[0]).clamp(0, 255)
    x = blend(x, grey(x).mean((1, 2, 3), keepdim=True), factors[1])
    return blend(x, grey(x), factors[2]) if x.shape[1] == 3 else x


def blend(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """share * x + (1 - share) * other, clamped to 0 to 255."""
    return (other + share * (x - other)).clamp(0, 255)


def grey(x: Tensor) -> Tensor:
    """Images in grey: (n, C, H, W) -> (n, 1, H, W)."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)

"""Enlarging images on their device to the very pixels that PIL's bilinear resize gives.

In whole numbers from end to end, as Pillow's Resample.c: the same on every device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BITS = 22  # of a weight's fraction, as in Pillow


def enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    """Pixels (..., h, w) uint8 -> (..., *size) uint8; those that have this size are left alone.

    Raises:
        ValueError: the images are larger than that.
    """
    for axis in (-1, -2):  # each pass is rounded to whole pixel values, the horizontal one first
        if x.shape[axis] != size[axis]:
            x = stretched(x, axis, size[axis])
    return x


def stretched(x: Tensor, axis: int, length: int) -> Tensor:
    """Mix the two pixels on either side of each new pixel's centre; past the edge is the edge."""
    old = x.shape[axis]
    if old > length:
        raise ValueError(f"{old} pixels were to be enlarged to {length}")
    # The distance from the first pixel's centre, in units of a pixel / (2 * length).
    place = (2 * torch.arange(length, device=x.device) + 1) * old - length
    left, rest = place // (2 * length), place % (2 * length)
    weight = (((rest << BITS) + length) // (2 * length)).int()  # of the right one
    weight = weight.view(-1, *[1] * (-1 - axis))
    one, two = (x.index_select(axis, at.clamp(0, old - 1)).int() for at in (left, left + 1))
    mixed = two.sub_(one).mul_(weight).add_(one.bitwise_left_shift_(BITS)).add_(1 << (BITS - 1))
    return mixed.bitwise_right_shift_(BITS).to(torch.uint8)

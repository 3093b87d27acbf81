"""Resizing images on their device to the very pixels that PIL's bilinear resize gives.

In whole numbers from end to end, as Pillow's Resample.c: the same on every device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BITS = 22  # of a weight's fraction, as in Pillow


def at_size(x: Tensor, size: Sequence[int]) -> Tensor:
    """Pixels (..., h, w) uint8 -> (..., *size) uint8; those that have this size are left alone.

    Not PIL's where one side grows and the other shrinks: it takes the vertical pass first then.
    """
    for axis in (-1, -2):  # each pass is rounded to whole pixel values, the horizontal one first
        if x.shape[axis] < size[axis]:
            x = stretched(x, axis, size[axis])
        elif x.shape[axis] > size[axis]:
            x = shrunk(x, axis, size[axis])
    return x


def shrunk(x: Tensor, axis: int, length: int) -> Tensor:
    """Mix all pixels less than `old / length` from each new pixel's centre, the nearer the more."""
    old = x.shape[axis]
    scale = old / length
    centre = (torch.arange(length, dtype=torch.float64) + 0.5) * scale
    first = (centre - scale + 0.5).long().clamp(min=0)
    count = (centre + scale + 0.5).long().clamp(max=old) - first
    taps = torch.arange(int(count.max())).unsqueeze(-1)
    weight = (1 - ((taps + first - centre + 0.5) * (1 / scale)).abs()).clamp(min=0)
    weight[taps >= count] = 0
    whole = (weight / weight.sum(0) * (1 << BITS) + 0.5).int()
    mixed = torch.tensor(1 << (BITS - 1), dtype=torch.int32, device=x.device)
    for tap, part in enumerate(whole.to(x.device)):
        place = (first + tap).clamp(max=old - 1).to(x.device)
        mixed = mixed + x.index_select(axis, place).int() * part.view(-1, *[1] * (-1 - axis))
    return mixed.bitwise_right_shift(BITS).clamp(max=255).to(torch.uint8)


def stretched(x: Tensor, axis: int, length: int) -> Tensor:
    """Mix the two pixels on either side of each new pixel's centre; past the edge is the edge."""
    old = x.shape[axis]
    # The distance from the first pixel's centre, in units of a pixel / (2 * length).
    place = (2 * torch.arange(length, device=x.device) + 1) * old - length
    left, rest = place // (2 * length), place % (2 * length)
    weight = (((rest << BITS) + length) // (2 * length)).int()  # of the right one
    weight = weight.view(-1, *[1] * (-1 - axis))
    one, two = (x.index_select(axis, at.clamp(0, old - 1)).int() for at in (left, left + 1))
    mixed = two.sub_(one).mul_(weight).add_(one.bitwise_left_shift_(BITS)).add_(1 << (BITS - 1))
    return mixed.bitwise_right_shift_(BITS).to(torch.uint8)

"""Resizing images on their device, to exactly the pixels of PIL's bilinear resize.

All arithmetic is in integers, as in Pillow's Resample.c, so every device gives the same pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BITS = 22  # of a weight's fraction, as in Pillow


def at_size(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize pixels (..., h, w) uint8 -> (..., *size) uint8; nothing changes at the right size.

    If one side grows and the other shrinks, the pixels are not those of PIL, which then resizes the
    vertical side first.
    """
    for axis in (-1, -2):  # horizontal first; each pass rounds to whole pixel values
        if x.shape[axis] < size[axis]:
            x = stretched(x, axis, size[axis])
        elif x.shape[axis] > size[axis]:
            x = shrunk(x, axis, size[axis])
    return x


def shrunk(x: Tensor, axis: int, length: int) -> Tensor:
    """Shrink an axis to `length` pixels.

    A new pixel is the mean of the old ones less than `old / length` from its centre, with weights
    that fall linearly with the distance.
    """
    old = x.shape[axis]
    scale = old / length
    centre = (torch.arange(length, dtype=torch.float64) + 0.5) * scale
    first = (centre - scale + 0.5).long().clamp(min=0)
    count = (centre + scale + 0.5).long().clamp(max=old) - first
    taps = torch.arange(int(count.max())).unsqueeze(-1)
    weight = (1 - ((taps + first - centre + 0.5) * (1 / scale)).abs()).clamp(min=0)
    weight[taps >= count] = 0
    integer_weight = (weight / weight.sum(0) * (1 << BITS) + 0.5).int()  # (taps, length)
    total = torch.tensor(1 << (BITS - 1), dtype=torch.int32, device=x.device)  # rounds to nearest
    for tap, of_tap in enumerate(integer_weight.to(x.device)):
        place = (first + tap).clamp(max=old - 1).to(x.device)
        total = total + x.index_select(axis, place).int() * of_tap.view(-1, *[1] * (-1 - axis))
    return total.bitwise_right_shift(BITS).clamp(max=255).to(torch.uint8)


def stretched(x: Tensor, axis: int, length: int) -> Tensor:
    """Stretch an axis to `length` pixels.

    A new pixel is the weighted mean of the two old ones around its centre; beyond the edge the
    last pixel is repeated.
    """
    old = x.shape[axis]
    # The distance of each centre from that of the first pixel, in units of 1 / (2 * length) pixel.
    distance = (2 * torch.arange(length, device=x.device) + 1) * old - length
    left, rest = distance // (2 * length), distance % (2 * length)
    weight = (((rest << BITS) + length) // (2 * length)).int()  # of the right pixel
    weight = weight.view(-1, *[1] * (-1 - axis))
    left_pixels = x.index_select(axis, left.clamp(0, old - 1)).int()
    right_pixels = x.index_select(axis, (left + 1).clamp(0, old - 1)).int()
    # (right - left) * weight + left + 1/2, in units of 2^-BITS, in place to save memory.
    total = right_pixels.sub_(left_pixels).mul_(weight)
    total = total.add_(left_pixels.bitwise_left_shift_(BITS)).add_(1 << (BITS - 1))
    return total.bitwise_right_shift_(BITS).to(torch.uint8)

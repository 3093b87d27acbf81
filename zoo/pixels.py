"""Images as a network sees them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normalised_pixels(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels from 0 to 255, (..., C, H, W), as float (..., C, H, W): (x / 255 - mean) / std.

    Args:
        x: the pixels, uint8 or floating-point.
        mean: of each channel, of pixels from 0 to 1.
        std: likewise.
    """
    low, scale = (torch.tensor(part, device=x.device).view(-1, 1, 1) * 255 for part in (mean, std))
    return (x.float() - low).div_(scale)

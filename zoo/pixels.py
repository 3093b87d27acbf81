"""From pixels to a network's input."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normalised_pixels(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x / 255 - mean) / std: (..., C, H, W) -> float (..., C, H, W).

    Args:
        x: pixels from 0 to 255, uint8 or floating-point.
        mean: of each channel, for pixels from 0 to 1.
        std: standard deviation of each channel, likewise.
    """
    scaled_mean = torch.tensor(mean, device=x.device).view(-1, 1, 1) * 255
    scaled_std = torch.tensor(std, device=x.device).view(-1, 1, 1) * 255
    return (x.float() - scaled_mean).div_(scaled_std)

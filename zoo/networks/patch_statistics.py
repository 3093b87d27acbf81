"""Means and variances for batch norm: of a map, or of a convolution's output on fixed data."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from zoo.networks.second_derivatives import channel_moments, channels_last, wide


def batch_moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over n, H and W: (n, C, H, W) -> (C,), (C,)."""
    return _Moments.apply(channels_last(z))


MOST_NUMBERS = 2**20  # in the patches that are held in memory at once


class PatchMoments(NamedTuple):
    """Mean m and covariance C of the patches of fixed data, for each group of channels.

    A convolution with weights w has outputs of mean w.m and variance w'Cw. So its batch statistics
    are known without computing the outputs.
    """

    mean: Tensor  # (groups, C*k*k) float64
    covariance: Tensor  # (groups, C*k*k, C*k*k) float64

    @classmethod
    def of(cls, x: Tensor, size: int, stride: int = 1, groups: int = 1) -> "PatchMoments":
        """Compute them from the size x size patches of x (n, groups*C, H, W)."""

        def patches(images: Tensor) -> Tensor:  # (n, groups, C*k*k, positions)
            windows = images.unfold(2, size, stride).unfold(3, size, stride)
            windows = windows.permute(0, 1, 4, 5, 2, 3)
            return windows.reshape(len(images), groups, -1, windows[0, 0, 0, 0].numel())

        # Channels are centred, since a variance can be a small difference of large numbers.
        centre = x.detach().mean((0, 2, 3), dtype=torch.float64)
        x = F.pad(x.detach().contiguous(), [size // 2] * 4) - centre.to(x).view(-1, 1, 1)
        mean = patches(x.mean(0, keepdim=True, dtype=torch.float64)).mean((0, 3))
        products: Any = 0
        for part in x.split(max(1, MOST_NUMBERS // (x[0].numel() * size**2))):
            u = patches(part)
            products = products + (u @ u.mT).sum(0, dtype=torch.float64)
        covariance = products / (len(x) * u.shape[3]) - mean.unsqueeze(2) * mean.unsqueeze(1)
        shift = centre.to(x).double().view(groups, -1).repeat_interleave(size**2, 1)
        return cls(mean + shift, covariance)

    def after(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each output channel of a convolution.

        weight (groups*O, C, k, k) -> (groups*O,), (groups*O,)
        """
        w = weight.double().view(len(self.mean), -1, self.mean.shape[1])
        mean = w @ self.mean.unsqueeze(2)
        var = ((w @ self.covariance) * w).sum(2)
        return mean.flatten().to(weight), var.flatten().to(weight)


class _Moments(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = channel_moments(z)
        ctx.save_for_backward(z, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, gmean: Tensor, gvar: Tensor) -> Tensor:
        """Made of ordinary operations, so it can be differentiated again."""
        z, mean = ctx.saved_tensors
        count = z.numel() // len(mean)
        return wide(gmean / count) + (z - wide(mean)) * wide(2 * gvar / count)

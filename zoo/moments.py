"""Means and variances for batch norm: of a map, or of what a convolution will make of data."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from zoo.functions import channels_last, wide


def batch_moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over n, H and W: (n, C, H, W) -> (C,), (C,)."""
    return _Moments.apply(channels_last(z))


class PatchMoments(NamedTuple):
    """Mean and covariance of the patches of fixed data, for each group of channels.

    What a convolution makes of the data has mean w.m and variance w'Cw: no pass over its output.
    """

    mean: Tensor  # (groups, C*k*k) float64
    covariance: Tensor  # (groups, C*k*k, C*k*k) float64

    @classmethod
    def of(cls, x: Tensor, size: int, stride: int = 1, groups: int = 1) -> "PatchMoments":
        """Of the size x size patches of x (n, groups*C, H, W).

        In float64: a variance can be a small difference of large numbers.
        """
        u = F.unfold(x.detach().double(), size, padding=size // 2, stride=stride)
        u = u.unflatten(1, (groups, -1)).transpose(0, 1)  # (groups, n, C*k*k, positions)
        mean = u.mean((1, 3))
        covariance = (u @ u.mT).mean(1) / u.shape[3] - mean.unsqueeze(2) * mean.unsqueeze(1)
        return cls(mean, covariance)

    def after(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the output of a convolution.

        weight (groups*O, C, k, k) -> (groups*O,), (groups*O,)
        """
        w = weight.double().view(len(self.mean), -1, self.mean.shape[1])
        mean = w @ self.mean.unsqueeze(2)
        var = ((w @ self.covariance) * w).sum(2)
        return mean.flatten().to(weight), var.flatten().to(weight)


class _Moments(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = torch.batch_norm_update_stats(z, None, None, 0.0)
        ctx.save_for_backward(z, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, gmean: Tensor, gvar: Tensor) -> Tensor:
        """Of ordinary operations, so differentiable again."""
        z, mean = ctx.saved_tensors
        count = z.numel() // len(mean)
        return wide(gmean / count) + (z - wide(mean)) * wide(2 * gvar / count)

"""Pairs of support examples, of one class or of two, and a loss on them."""

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive(r: Tensor, s: Tensor, same: Tensor, margin: float) -> Tensor:
    """d^2 of two of one class, max(0, margin - d)^2 of two of two: (..., H), (...) -> (...)."""
    square = (r - s).square().sum(-1)
    return torch.where(same, square, F.relu(margin - (square + 1e-6).sqrt()).square())


def pairs(z: Tensor, y: Tensor, way: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features of two examples, in turn of one class and of two, and whether they are of one.

    Of each class the first two that the support has, in its random order; at most 2N pairs.

    z (T, N*K, D), y (T, N*K) -> (T, n, D), (T, n, D), (T, n)
    """
    places = y.argsort(stable=True).unflatten(1, (way, -1))  # (T, N, K)
    turn = torch.arange(min(count, 2 * way), device=y.device)
    first, second = turn // 2, (turn // 2 + turn % 2) % way
    one, other = places[:, first, 0], places[:, second, 1]
    same = (turn % 2 == 0).expand(len(y), -1)
    return take(z, one), take(z, other), same


def take(z: Tensor, places: Tensor) -> Tensor:
    """Some of each task's examples: (T, n, D), (T, m) -> (T, m, D)."""
    return z.take_along_dim(places.unsqueeze(-1), 1)

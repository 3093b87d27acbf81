"""An adaptive sampler's scores: how much a task is worth training on, by its support's features.

They are those of ASr's code (Wang et al., IJCV 2024), except that features are scaled to length 1,
so that SIGMA, the noise, and EPSILON, the distortion, mean the same in every network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.episode import Examples
from zoo.methods.embedding import by_class, prototypes, squared_distances
from zoo.networks.backbone import batch_norm_context

SIGMA, EPSILON = 0.1, 0.1  # ASr's code


def diversity(z: Tensor) -> Tensor:
    """How much room a task's features take: (T, n, D) -> (T,).

    n/2 logdet(I + Z Z^T / (n SIGMA^2)) with Z of shape (D, n); Z^T Z has the same determinant, and
    is smaller.
    """
    z, n = F.normalize(z, dim=-1), z.shape[1]
    return n / 2 * _logdet(z / n**0.5 / SIGMA)


def entropy(z: Tensor, y: Tensor, way: int) -> Tensor:
    """How much room the features take within classes: z (T, n, D), y (T, n) -> (T,).

    sum_j tr C_j / (2n) logdet(I + Z C_j Z^T / (tr C_j EPSILON^2)), where the diagonal C_j marks the
    members of class j, and tr C_j is their number.
    """
    z, n = F.normalize(z, dim=-1), z.shape[1]
    classes = by_class(z.mT, y, way).permute(0, 2, 3, 1)  # (T, N, K, D)
    members = classes.shape[2]
    return members / (2 * n) * _logdet(classes / members**0.5 / EPSILON).sum(-1)


def difficulty(z: Tensor, y: Tensor, way: int) -> Tensor:
    """Squared norm of the gradient of each example's loss in its features: (T, n).

    The loss is the cross-entropy of p, the softmax over -||z - c_k||^2 to the class means. Its
    gradient is 2 (sum_k p_k c_k - c_y).
    """
    z = F.normalize(z, dim=-1)
    c = prototypes(z, y, way)
    p = (-squared_distances(z, c)).softmax(-1)
    return 4 * ((p - F.one_hot(y, way)) @ c).square().sum(-1)


def hardest(z: Tensor, y: Tensor, way: int) -> Tensor:
    """The most difficult half, rounded up, of each class's examples.

    z (T, N*K, D), y (T, N*K) -> (T, N*ceil(K/2), D)
    """
    scores = by_class(difficulty(z, y, way).unsqueeze(1), y, way).squeeze(1)  # (T, N, K)
    classes = by_class(z.mT, y, way).permute(0, 2, 3, 1)
    kept = scores.topk(-(-scores.shape[-1] // 2)).indices
    return classes.take_along_dim(kept.unsqueeze(-1), 2).flatten(1, 2)


def task_scores(net: nn.Module, support: Examples, way: int) -> Tensor:
    """The sum of each task's diversity, entropy and difficulty, each standardised over the tasks.

    The features are those of `net` alone, without the matrices of T-Net or warp; each task has its
    own batch statistics.

    Args:
        net: from images to D features.
        support: of C tasks, x (C, N*K, *image).
        way: N.

    Returns:
        (C,).
    """
    like = next(net.parameters(), support.x)
    x, y = support.x.to(like), support.y.to(like.device)
    with torch.no_grad(), batch_norm_context(net, track=False):
        z = torch.stack([net(task) for task in x]).double()
    parts = torch.stack([diversity(z), entropy(z, y, way), difficulty(z, y, way).sum(-1)])
    centred = parts - parts.mean(-1, keepdim=True)
    spread = centred.square().mean(-1, keepdim=True).sqrt()
    # A score that is equal for all tasks but for rounding, as entropy at one shot, counts as 0.
    equal = spread <= 1e-9 * parts.abs().mean(-1, keepdim=True)
    return (centred / spread.where(~equal, torch.inf)).sum(0)


def _logdet(rows: Tensor) -> Tensor:
    """logdet(I + rows rows^T): (..., n, D) -> (...)."""
    gram = rows @ rows.mT
    return torch.logdet(gram + torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device))

"""What a task is worth training on, by its support's features: the scores of an adaptive sampler.

Those of ASr (Wang et al., IJCV 2024), as its code has them; features have length 1 here, so that
noise and distortion, SIGMA and EPSILON, mean the same in every network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.episode import Examples
from zoo.methods.embedding import by_class, prototypes, squared_distances
from zoo.networks.backbone import batch_norm_context

SIGMA, EPSILON = 0.1, 0.1  # ASr's code


def diversity(z: Tensor) -> Tensor:
    """n/2 logdet(I + Z Z^T / (n SIGMA^2)), how much room a task's features take: (T, n, D) -> (T,).

    Z is (D, n); the determinant is the same of its (n, n) products.
    """
    z, n = F.normalize(z, dim=-1), z.shape[1]
    return n / 2 * _logdet(z / n**0.5 / SIGMA)


def entropy(z: Tensor, y: Tensor, way: int) -> Tensor:
    """sum_j tr C_j / (2n) logdet(I + Z C_j Z^T / (tr C_j EPSILON^2)), the room within classes.

    z (T, n, D), y (T, n), C_j the members of class j, tr C_j their number -> (T,).
    """
    z, n = F.normalize(z, dim=-1), z.shape[1]
    classes = by_class(z.mT, y, way).permute(0, 2, 3, 1)  # (T, N, K, D)
    members = classes.shape[2]
    return members / (2 * n) * _logdet(classes / members**0.5 / EPSILON).sum(-1)


def difficulty(z: Tensor, y: Tensor, way: int) -> Tensor:
    """||grad||^2 of each example's loss under nearest class means, in its features: (T, n).

    With p its softmax over -||z - c_k||^2, the gradient is 2 (sum_k p_k c_k - c_y).
    """
    z = F.normalize(z, dim=-1)
    c = prototypes(z, y, way)
    p = (-squared_distances(z, c)).softmax(-1)
    return 4 * ((p - F.one_hot(y, way)) @ c).square().sum(-1)


def hardest(z: Tensor, y: Tensor, way: int) -> Tensor:
    """Of each class the half of its examples, rounded up, that is most difficult.

    z (T, N*K, D), y (T, N*K) -> (T, N*ceil(K/2), D)
    """
    scores = by_class(difficulty(z, y, way).unsqueeze(1), y, way).squeeze(1)  # (T, N, K)
    classes = by_class(z.mT, y, way).permute(0, 2, 3, 1)
    kept = scores.topk(-(-scores.shape[-1] // 2)).indices
    return classes.take_along_dim(kept.unsqueeze(-1), 2).flatten(1, 2)


def task_scores(net: nn.Module, support: Examples, way: int) -> Tensor:
    """Diversity, entropy and difficulty of each task, each in deviations from the mean, summed.

    Features are those of the network as it is, without what T-Net or warp would put before its
    layers; each task's batch norm is its own.

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
    apart = parts - parts.mean(-1, keepdim=True)
    spread = apart.square().mean(-1, keepdim=True).sqrt()
    alike = spread <= 1e-9 * parts.abs().mean(-1, keepdim=True)  # entropy at one shot, but rounding
    return (apart / spread.where(~alike, torch.inf)).sum(0)


def _logdet(rows: Tensor) -> Tensor:
    """logdet(I + rows rows^T): (..., n, D) -> (...)."""
    gram = rows @ rows.mT
    return torch.logdet(gram + torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device))

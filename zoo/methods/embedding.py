"""What learners share that compare embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.episode import Episode
from zoo.learner import Learner
from zoo.networks.backbone import batch_norm_context
from zoo.networks.layers import pointwise


class EmbeddingLearner(Learner):
    """A learner whose network embeds support and query in one pass."""

    def __init__(
        self, net: nn.Module, way: int, *, batch_norm: str = "running", outer_lr: float = 1e-3
    ) -> None:
        """Set the traits that depend on the mode of batch norm.

        Args:
            net: from images to D features.
            way: N of the test episodes; training may have more.
            batch_norm: ``batch``, ``running`` or ``support``.
            outer_lr: learning rate of the outer loop's Adam.
        """
        super().__init__(net, way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.transductive = self.batch_norm == "batch"
        # In training, batch norm takes its statistics over all tasks of the meta-batch.
        self.joint_tasks = self.batch_norm == "running"
        self.embeds_alone = self.batch_norm in ("running", "none")

    def embed(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """f(x) of support and query, (T, N*K, D) and (T, N*Q, D).

        All tasks go through the network in one pass, unless each task has batch statistics of its
        own.
        """
        rows = episode.support.x.shape[1]
        x = torch.cat([episode.support.x, episode.query.x], dim=1)
        with batch_norm_context(self.net, support_rows=rows):
            if self.batch_norm in ("running", "none"):
                z = pointwise(self.net, x)
            else:
                z = torch.stack([self.net(task) for task in x])
        return z[:, :rows], z[:, rows:]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """||a - b||^2 of every pair: (T, n, D), (T, N, D) -> (T, n, N)."""
    return a.square().sum(-1, keepdim=True) + b.square().sum(-1).unsqueeze(1) - 2 * (a @ b.mT)


def by_class(values: Tensor, y: Tensor, way: int) -> Tensor:
    """Group values, one per support point, by the point's class: (T, n, N*K) -> (T, n, N, K).

    y (T, N*K) has each label K times.
    """
    order = y.argsort(1).unsqueeze(1).expand_as(values)
    return values.gather(-1, order).unflatten(-1, (way, -1))


def prototypes(z: Tensor, y: Tensor, way: int) -> Tensor:
    """The mean embedding of the support points of each class.

    z (T, N*K, D), y (T, N*K) -> c (T, N, D)
    """
    members = F.one_hot(y, way).to(z).mT  # (T, N, N*K)
    return members @ z / members.sum(-1, keepdim=True)

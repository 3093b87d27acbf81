"""Prototypical Networks (Snell, Swersky & Zemel, NeurIPS 2017). https://arxiv.org/abs/1703.05175

Departures from the paper:

1. The learning rate is halved `halvings` times over the budget's updates. The paper halves it
   every 2,000 episodes and trains until validation stops improving; ten halvings are the same
   over the 20,000 episodes that our `paper` budget takes.
2. The authors train again on train + validation classes for the number of epochs found; we test
   the checkpoint that was best on validation.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, Learner, register
from zoo.backbones import normalising


@register("protonet")
class ProtoNet(Learner):
    """Classify a query by its distance to each class's mean support embedding."""

    title = "ProtoNet"
    family = "metric"
    wrappable = True

    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        halvings: int = 10,
        batch_norm: str = "running",
        outer_lr: float = 1e-3,
    ) -> None:
        """Defaults are for mini-ImageNet.

        Args:
            backbone: from images to D features.
            way: N of the test episodes; training may have more (`train_way`).
            halvings: how often the learning rate is halved over the whole training [section 3.1].
            batch_norm: constants of training at test, as in the authors' code.
            outer_lr: of Adam [section 3.1].
        """
        super().__init__(backbone, way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.halvings = halvings
        self.transductive = self.batch_norm == "batch"
        # Training: one batch norm over the meta-batch.
        self.joint_tasks = self.batch_norm == "running"
        self.embeds_alone = self.batch_norm in ("running", "none")

    def forward(self, episode: Episode) -> Tensor:
        """Softmax over -d(f(x), c_k), squared Euclidean (eq. 2): logits (T, N*Q, N)."""
        x = torch.cat([episode.support.x, episode.query.x], dim=1)  # one pass, as the authors
        rows = episode.support.x.shape[1]
        z_support, z_query = self.embed(x, rows).tensor_split([rows], dim=1)
        c = prototypes(z_support, episode.support.y, episode.way)
        return -squared_distances(z_query, c)

    def embed(self, x: Tensor, support_rows: int) -> Tensor:
        """f_phi: (T, n, *image) -> (T, n, D).

        All tasks pass through one batch norm where its statistics are running ones; else task by
        task.
        """
        with normalising(self.net, support_rows=support_rows):
            if self.batch_norm == "running":
                return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            return torch.stack([self.net(task) for task in x])

    def anneal(self, progress: float) -> float:
        """Halve the learning rate at equal distances."""
        return 0.5 ** int(progress * self.halvings)


def prototypes(z: Tensor, y: Tensor, way: int) -> Tensor:
    """c_k, the mean embedding of the support points of class k (eq. 1).

    z (T, N*K, D), y (T, N*K) -> c (T, N, D)
    """
    members = F.one_hot(y, way).to(z).mT  # (T, N, N*K)
    return members @ z / members.sum(-1, keepdim=True)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """||a - b||^2 of every pair: (T, n, D), (T, N, D) -> (T, n, N)."""
    return a.square().sum(-1, keepdim=True) + b.square().sum(-1).unsqueeze(1) - 2 * (a @ b.mT)

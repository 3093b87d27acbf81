"""Prototypical Networks (Snell, Swersky & Zemel, NeurIPS 2017). https://arxiv.org/abs/1703.05175

Departures from the paper:

1. The learning rate is halved `halvings` times over the whole training. The paper halves it every
   2,000 episodes and trains until validation stops improving; over the 20,000 episodes of our
   budget `paper`, ten halvings are the same.
2. The authors train again, on train + validation classes, for the best number of epochs; we test
   the checkpoint that was best on validation.
"""

from torch import Tensor, nn

from zoo import Episode, Examples, register
from zoo.methods.embedding import EmbeddingLearner, prototypes, squared_distances
from zoo.methods.host import Host


@register("protonet")
class ProtoNet(EmbeddingLearner, Host):
    """Classify a query by its distance to each class's mean support embedding."""

    title = "ProtoNet"
    family = "metric"
    uneven_support = True  # a class mean can be taken over any number of images

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
            batch_norm: ``running`` tests with the statistics of training, like the authors' code.
            outer_lr: of Adam [section 3.1].
        """
        super().__init__(backbone, way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.halvings = halvings

    def encode(self, episode: Episode) -> Episode:
        """f(x) of support and query in one pass, as the authors do: (T, n, D)."""
        z_support, z_query = self.embed(episode)
        support, query, way = episode
        return Episode(Examples(z_support, support.y), Examples(z_query, query.y), way)

    def models(self, episode: Episode) -> Tensor:
        """c_k, the mean of each class's features (eq. 1): (T, N, D)."""
        return prototypes(*episode.support, episode.way)

    def predict(self, models: Tensor, episode: Episode) -> Tensor:
        """Softmax over -d(f(x), c_k), squared Euclidean (eq. 2): logits (T, N*Q, N)."""
        return -squared_distances(episode.query.x, models)

    def anneal(self, progress: float) -> float:
        """Halve the learning rate `halvings` times, at equal distances."""
        return 0.5 ** int(progress * self.halvings)

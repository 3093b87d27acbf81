"""Classifier-Baseline (Chen, Liu, Xu, Darrell & Wang, ICCV 2021). https://arxiv.org/abs/2003.04390

Departures from the paper:

1. Pre-training is the zoo's (`zoo/runs/pretraining.py`), on the learner's backbone; the paper takes
   100 epochs on ResNet-12, in batches of 128, at a learning rate of 0.1.
2. Cosines are multiplied by 10, which changes the `nll` and no prediction; the paper's
   Classifier-Baseline has no such factor.
"""

from torch import Tensor, nn

from zoo import Episode, register
from zoo.errors import UsageError
from zoo.methods.embedding import EmbeddingLearner, prototypes, squared_distances
from zoo.networks.layers import cosines

DISTANCES = ("cosine", "euclidean")
SCALE = 10.0


@register("pretrained")
class Pretrained(EmbeddingLearner):
    """Classify a query by the nearest class mean, in the features of a pre-trained encoder."""

    title = "Pre-trained"
    family = "reference"
    uneven_support = True

    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        distance: str = "cosine",
        batch_norm: str = "running",
    ) -> None:
        """Nothing is learned in episodes; the setting `pretrained_from` says what comes before.

        Args:
            backbone: from images to D features.
            way: N of the test episodes.
            distance: cosine, or euclidean, as ProtoNet's [section 3.1].
            batch_norm: ``running`` uses the statistics of the pre-training [authors' code].
        """
        if distance not in DISTANCES:
            raise UsageError(f"--distance {distance}: choose from {', '.join(DISTANCES)}")
        super().__init__(backbone.requires_grad_(False), way, batch_norm=batch_norm)
        self.distance = distance

    def forward(self, episode: Episode) -> Tensor:
        """Cosines to the class means (eq. 1 and 2), or minus distances: logits (T, N*Q, N)."""
        z_support, z_query = self.embed(episode)
        c = prototypes(z_support, episode.support.y, episode.way)
        if self.distance == "cosine":
            return SCALE * cosines(z_query, c)
        return -squared_distances(z_query, c)

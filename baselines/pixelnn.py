"""Nearest neighbour on pixels (Vinyals et al., NeurIPS 2016). https://arxiv.org/abs/1606.04080

Departures from the paper:

1. Distances are squared Euclidean, between normalised pixels; theirs are cosines.
2. Its logits, minus the distances, are no log-probabilities, so its `nll` says little.
"""

from torch import Tensor, nn

from zoo import Episode, register
from zoo.methods.embedding import EmbeddingLearner, by_class, squared_distances


@register("pixelnn")
class PixelNN(EmbeddingLearner):
    """Give a query the class of the support image whose pixels are nearest: nothing is learned."""

    title = "Nearest pixels"
    family = "reference"

    def __init__(self, backbone: nn.Module, way: int) -> None:
        """There is nothing to set.

        Args:
            backbone: ``pixels``, whose features are the pixels.
            way: N of the test episodes.
        """
        super().__init__(backbone, way)
        self.embeds_alone = False  # kept as features, images would take four times the memory

    def forward(self, episode: Episode) -> Tensor:
        """Minus the distance to the nearest support image of each class: logits (T, N*Q, N)."""
        z_support, z_query = self.embed(episode)
        distances = squared_distances(z_query, z_support)
        return -by_class(distances, episode.support.y, episode.way).amin(-1)

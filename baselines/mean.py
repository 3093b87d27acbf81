"""The mean of the support. https://en.wikipedia.org/wiki/Coefficient_of_determination

What R², the share of the variance that is explained, compares a predictor with: whoever looks at
the inputs must beat it. Departures from the paper: none, there is no paper.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, Learner, register


@register("mean")
class MeanPredictor(Learner):
    """Predict the mean output of the support for every query: nothing is learned."""

    title = "Mean"
    family = "reference"
    regression = True
    only_for_tabular_data = True
    uses_inputs = False

    def __init__(self, backbone: nn.Module, way: int) -> None:
        """There is nothing to set.

        Args:
            backbone: is not used.
            way: N of the test episodes; in regression the number of outputs.
        """
        super().__init__(nn.Identity(), way)

    def forward(self, episode: Episode) -> Tensor:
        """The mean (T, Q, outputs); of classes the logarithms of their shares, (T, N*Q, N)."""
        y, queries = episode.support.y, episode.query.x.shape[1]
        if y.is_floating_point():
            return y.mean(1, keepdim=True).expand(-1, queries, -1)
        shares = F.one_hot(y, episode.way).to(episode.query.x.dtype).mean(1, keepdim=True)
        return torch.log(shares).expand(-1, queries, -1)

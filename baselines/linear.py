"""Ridge regression (Hoerl & Kennard, Technometrics 1970). https://doi.org/10.2307/1267351

Departures from the paper:

1. The intercept is not penalised.
2. For classes it is the regression of one output a class, 1 or 0, whose predictions serve as
   logits: their `nll` says little.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, UsageError, register
from zoo.methods.embedding import EmbeddingLearner


@register("linear")
class LinearRegression(EmbeddingLearner):
    """Fit a line with a penalty on its slopes to each support set: nothing is learned."""

    title = "Linear"
    family = "reference"
    regression = True
    only_for_tabular_data = True

    def __init__(self, backbone: nn.Module, way: int, *, penalty: float = 1.0) -> None:
        """The penalty is for inputs of variance 1, as `tabular` has them.

        Args:
            backbone: ``pixels``, whose features are the inputs.
            way: N of the test episodes; in regression the number of outputs.
            penalty: lambda, on the squared slopes beside the sum of squared errors [our choice].
        """
        if not penalty > 0:
            raise UsageError(f"--penalty {penalty}: expected a number above 0")
        super().__init__(backbone, way)
        self.penalty = penalty

    def forward(self, episode: Episode) -> Tensor:
        """Predictions (T, Q, outputs), or logits (T, N*Q, N)."""
        z_support, z_query = self.embed(episode)
        y = episode.support.y
        if not y.is_floating_point():
            y = F.one_hot(y, episode.way).to(z_support.dtype)
        z_mean, y_mean = z_support.mean(1, keepdim=True), y.mean(1, keepdim=True)
        z, z_query = z_support - z_mean, z_query - z_mean
        # w = Z'(ZZ' + lambda I)^-1 y: a system of the support's size, however many the inputs are.
        gram = z @ z.mT + self.penalty * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        dual = torch.linalg.solve(gram, y - y_mean)
        return z_query @ (z.mT @ dual) + y_mean

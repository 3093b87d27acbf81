"""Fully connected layers, for inputs that are not images."""

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.networks.backbone import Backbone
from zoo.networks.layers import Linear
from zoo.registry import register_backbone


class MLP(Backbone):
    """Fully connected layers, each followed by a ReLU."""

    folds = True
    family = "mlp"

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        sizes = [inputs, *[width] * depth]
        self.layers = nn.ModuleList([Linear(i, o) for i, o in pairwise(sizes)])
        self.inputs, self.features = inputs, width

    def forward(self, x: Tensor) -> Tensor:
        """(n, *input) -> (n, D); with per-task parameters (T, n, *input) -> (T, n, D)."""
        x = x.flatten(next(self.parameters()).dim() - 1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


@register_backbone("mlp")
def mlp(image: tuple[int, ...], width: int = 40, depth: int = 2) -> Backbone:
    """Fully connected layers with ReLU (Finn 2017 has 40-40 for sinusoids)."""
    return MLP(math.prod(image), width, depth)

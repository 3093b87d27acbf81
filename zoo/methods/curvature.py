"""Preconditioners from the shape of a layer's gradient: mode products, and singular directions."""

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.methods.steps import Params, Preconditioner, chosen, convolutions


class MetaCurvature(Preconditioner):
    """A matrix on each of a layer's outputs, inputs and pixels: G x M_o x M_i x M_f.

    Park & Oliva 2019, arXiv 1902.03356. What has one axis, as a bias, keeps its gradient.
    """

    def __init__(self, net: nn.Module, names: Collection[str] | None = None) -> None:
        """All of them 1, for the layers of `net`, or for those whose weights are named."""
        super().__init__()
        layers = {name: p for name, p in chosen(net, names).items() if p.dim() > 1}
        self.first = {name: 3 * number for number, name in enumerate(layers)}
        sizes = [(len(p), p.shape[1], math.prod(p.shape[2:])) for p in layers.values()]
        self.matrices = nn.ParameterList([torch.eye(n) for layer in sizes for n in layer])

    def forward(self, step: int, gradients: Params) -> Params:
        """Each layer's mode products."""
        return {n: self._moved(n, g) if n in self.first else g for n, g in gradients.items()}

    def _moved(self, name: str, g: Tensor) -> Tensor:
        moved = g.reshape(*g.shape[:3], -1)  # (T, O, I, pixels)
        for axis in range(3):
            m = self.matrices[self.first[name] + axis]
            last = moved.transpose(axis + 1, -1)
            # A head of one row that became N has one number for all its rows.
            last = m * last if len(m) == 1 else last @ m.mT
            moved = last.transpose(axis + 1, -1)
        return moved.reshape(g.shape)


class GAP(Preconditioner):
    """A rate for each singular direction of a convolution's gradient: U diag(rates) U^T g.

    Kang et al. 2023, arXiv 2304.01552 [conv layers only, rates softplus(M)]. U is a constant to the
    outer loop, so its meta-gradient is not that of the whole.
    """

    def __init__(self, net: nn.Module, names: Collection[str] | None = None) -> None:
        """Rates of 1 for the convolutions of `net`, or for those that are named."""
        super().__init__()
        layers = convolutions(net, names)
        self.number = {name: number for number, name in enumerate(layers)}
        ranks = [min(len(p), p[0].numel()) for p in layers.values()]
        start = math.log(math.exp(2) - 1) / 2  # softplus of it is 1
        self.logits = nn.ParameterList([torch.full((rank,), start) for rank in ranks])

    def forward(self, step: int, gradients: Params) -> Params:
        """Each convolution's gradient, its directions stretched."""
        return {n: self._moved(n, g) if n in self.number else g for n, g in gradients.items()}

    def _moved(self, name: str, g: Tensor) -> Tensor:
        flat = g.flatten(2)  # (T, O, I * pixels)
        u, _, _ = torch.linalg.svd(flat.detach(), full_matrices=False)
        rates = F.softplus(self.logits[self.number[name]], 2)
        return ((u * rates) @ (u.mT @ flat)).view_as(g)

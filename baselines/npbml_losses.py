"""Losses that are learned (NPBML, arXiv 2406.07983), each a small network; and their sum."""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UsageError
from zoo.losses import task_cross_entropy
from zoo.methods.preconditioners import Params
from zoo.networks.layers import FiLM, Linear, start_small

COMPONENTS = ("support", "query", "regulariser")
UNITS = 40


class LossNet(nn.Module):
    """Two hidden layers, FiLM between them, and one number."""

    def __init__(self, inputs: int, film: bool) -> None:
        """From so many inputs, nearly constant at the start."""
        super().__init__()
        sizes = [inputs, UNITS, UNITS]
        self.hidden = nn.ModuleList(map(Linear, sizes, sizes[1:]))
        self.films = nn.ModuleList(map(FiLM, sizes, sizes[1:]) if film else [])
        self.out = Linear(UNITS, 1)
        start_small(self)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (...)."""
        for number, layer in enumerate(self.hidden):
            z = layer(x)
            x = F.relu(self.films[number](x, z) if self.films else z)
        return smooth_leaky_relu(self.out(x)).squeeze(-1)


def smooth_leaky_relu(x: Tensor, leak: float = 0.25, beta: float = 5.0) -> Tensor:
    """Leak times x where x is low, x where it is high, and smooth between."""
    return leak * x + (1 - leak) * F.softplus(x, beta)


class LearnedLoss(nn.Module):
    """M = L^base + L^S + L^Q + R, of those that are asked for (eq. 13)."""

    def __init__(
        self,
        components: Collection[str],
        way: int,
        weights: Sequence[str],
        film: bool,
        hard_labels: bool = False,
    ) -> None:
        """Networks for the components.

        Args:
            components: some of COMPONENTS.
            way: N; L^S and L^Q read N numbers in their order.
            weights: names of the L layers' weights that R reads.
            film: whether FiLM modulates their layers.
            hard_labels: whether the highest relation score is a query's label, instead of all.
        """
        super().__init__()
        self.weights, self.hard_labels = weights, hard_labels
        inputs = dict.fromkeys(COMPONENTS, 2 * way + 1) | {"regulariser": 4 * len(weights)}
        self.nets = nn.ModuleDict({c: LossNet(inputs[c], film) for c in sorted(components)})

    def forward(self, logits: Tensor, y: Tensor, relations: Tensor | None = None) -> Tensor:
        """L^base + L^S + L^Q: support before queries (T, n, N), y (T, N*K) -> (T,).

        L^Q where there are relation scores (T, N*Q, N).
        """
        known, rest = logits[:, : y.shape[1]], logits[:, y.shape[1] :]
        total = task_cross_entropy(known, y)
        if "support" in self.nets:
            total = total + self.support(known, y)
        if relations is not None:
            total = total + self.query(rest, relations)
        return total

    def support(self, logits: Tensor, y: Tensor) -> Tensor:
        """L^S, of label, prediction and base loss: (T, N*K, N), (T, N*K) -> (T,)."""
        label = F.one_hot(y, logits.shape[-1]).to(logits)
        base = F.cross_entropy(logits.mT, y, reduction="none")
        return self.nets["support"](torch.cat([label, logits, base[..., None]], -1)).mean(-1)

    def query(self, logits: Tensor, relations: Tensor) -> Tensor:
        """L^Q, of prediction, relation scores and base loss between: 2 (T, N*Q, N) -> (T,)."""
        target = relations
        if self.hard_labels:
            target = F.one_hot(relations.argmax(-1), relations.shape[-1]).to(relations)
        base = soft_cross_entropy(logits, target)
        return self.nets["query"](torch.cat([logits, relations, base[..., None]], -1)).mean(-1)

    def regulariser(self, theta: Params) -> Tensor:
        """R, of statistics of each layer's weights: (T,); 0 without R."""
        weights = [theta[name] for name in self.weights]
        if "regulariser" not in self.nets:
            return weights[0].new_zeros(len(weights[0]))
        return self.nets["regulariser"](statistics(weights))


def soft_cross_entropy(logits: Tensor, scores: Tensor) -> Tensor:
    """Against scores >= 0, which are divided by their sum: 2 (T, n, N) -> (T, n)."""
    target = scores / scores.sum(-1, keepdim=True).clamp(min=1e-12)
    return -(target * logits.log_softmax(-1)).sum(-1)


def statistics(weights: list[Tensor]) -> Tensor:
    """Mean, standard deviation, L1 and L2 norm of each: L of (T, *shape) -> (T, 4L).

    The L1 norm of n weights is divided by sqrt(n), which makes it at most the L2 norm. As it is,
    thousands for a wide layer, R's gradient with FiLM outweighs the base loss's from the start.
    """
    flat = [w.flatten(1) for w in weights]
    each = [(w.mean(1), w.std(1, correction=0), l1(w), w.norm(dim=1)) for w in flat]
    return torch.stack([number for four in each for number in four], 1)


def l1(w: Tensor) -> Tensor:
    """Sum of magnitudes by sqrt(n): (T, n) -> (T,)."""
    return w.abs().sum(1) / math.sqrt(w.shape[1])


def components_of(loss: str, inductive: bool) -> set[str]:
    """What ``all``, ``none`` or names joined by ``+`` say; inductive ``all`` is without query.

    Raises:
        UsageError: there is no such component, or an inductive learner has not this one.
    """
    if loss in ("all", "none"):
        return set(COMPONENTS) - ({"query"} if inductive else set()) if loss == "all" else set()
    asked = loss.split("+")
    if unknown := [name for name in asked if name not in COMPONENTS]:
        known = f"{', '.join(COMPONENTS)}, joined by +, or all or none"
        raise UsageError(f"loss: no component {unknown[0]!r}: choose from {known}")
    if inductive and "query" in asked:
        raise UsageError("loss query: reads the queries, so it is not for inductive=true")
    return set(asked)

"""NPBML's learned losses (arXiv 2406.07983): a small network for each, and their sum."""

import math
from collections.abc import Collection, Sequence
from itertools import pairwise

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
    """Two hidden layers, each with FiLM if asked for, and an output of one number."""

    def __init__(self, inputs: int, film: bool) -> None:
        """Start nearly constant.

        Args:
            inputs: how many numbers it reads.
            film: whether FiLM modulates the hidden layers.
        """
        super().__init__()
        sizes = list(pairwise([inputs, UNITS, UNITS]))
        self.hidden = nn.ModuleList([Linear(i, o) for i, o in sizes])
        self.films = nn.ModuleList([FiLM(i, o) for i, o in sizes] if film else [])
        self.out = Linear(UNITS, 1)
        start_small(self)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (...)."""
        for number, layer in enumerate(self.hidden):
            z = layer(x)
            x = F.relu(self.films[number](x, z) if self.films else z)
        return smooth_leaky_relu(self.out(x)).squeeze(-1)


def smooth_leaky_relu(x: Tensor, leak: float = 0.25, beta: float = 5.0) -> Tensor:
    """Nearly leak * x for low x and nearly x for high x, smooth between."""
    return leak * x + (1 - leak) * F.softplus(x, beta)


class LearnedLoss(nn.Module):
    """M = L^base + L^S + L^Q + R, or only some of its components (eq. 13)."""

    def __init__(
        self,
        components: Collection[str],
        way: int,
        weights: Sequence[str],
        film: bool,
        hard_labels: bool = False,
    ) -> None:
        """Make a network for each component.

        Args:
            components: some of COMPONENTS.
            way: N; L^S and L^Q read N numbers, in the order of the ways.
            weights: names of the L weight tensors that R reads.
            film: whether FiLM modulates the networks' hidden layers.
            hard_labels: whether a query's target is the class of the highest relation score,
                instead of all scores.
        """
        super().__init__()
        self.weights, self.hard_labels = weights, hard_labels
        inputs = dict.fromkeys(COMPONENTS, 2 * way + 1) | {"regulariser": 4 * len(weights)}
        self.nets = nn.ModuleDict({c: LossNet(inputs[c], film) for c in sorted(components)})

    def forward(self, logits: Tensor, y: Tensor, relations: Tensor | None = None) -> Tensor:
        """L^base + L^S + L^Q of each task, (T,).

        Args:
            logits: of the support, then the queries, (T, n, N).
            y: the support's labels (T, N*K).
            relations: relation scores of the queries (T, N*Q, N); None leaves out L^Q.
        """
        rows = y.shape[1]
        support_logits, query_logits = logits[:, :rows], logits[:, rows:]
        total = base_loss(logits, y)
        if "support" in self.nets:
            total = total + self.support(support_logits, y)
        if relations is not None:
            total = total + self.query(query_logits, relations)
        return total

    def support(self, logits: Tensor, y: Tensor) -> Tensor:
        """L^S, from label, prediction and base loss: (T, N*K, N), (T, N*K) -> (T,)."""
        label = F.one_hot(y, logits.shape[-1]).to(logits)
        base = F.cross_entropy(logits.mT, y, reduction="none")
        return self.nets["support"](torch.cat([label, logits, base[..., None]], -1)).mean(-1)

    def query(self, logits: Tensor, relations: Tensor) -> Tensor:
        """L^Q, from prediction, relation scores and their base loss: both (T, N*Q, N) -> (T,)."""
        target = relations
        if self.hard_labels:
            target = F.one_hot(relations.argmax(-1), relations.shape[-1]).to(relations)
        base = soft_cross_entropy(logits, target)
        return self.nets["query"](torch.cat([logits, relations, base[..., None]], -1)).mean(-1)

    def regulariser(self, theta: Params) -> Tensor:
        """R, from statistics of each layer's weights: (T,); 0 if it is no component."""
        weights = [theta[name] for name in self.weights]
        if "regulariser" not in self.nets:
            return weights[0].new_zeros(len(weights[0]))
        return self.nets["regulariser"](statistics(weights))


def base_loss(logits: Tensor, y: Tensor) -> Tensor:
    """L^base, the cross-entropy of the support: logits (T, n, N), y (T, N*K) -> (T,)."""
    return task_cross_entropy(logits[:, : y.shape[1]], y)


def soft_cross_entropy(logits: Tensor, scores: Tensor) -> Tensor:
    """Cross-entropy with scores >= 0 divided by their sum: both (T, n, N) -> (T, n)."""
    target = scores / scores.sum(-1, keepdim=True).clamp(min=1e-12)
    return -(target * logits.log_softmax(-1)).sum(-1)


def statistics(weights: list[Tensor]) -> Tensor:
    """Mean, standard deviation, L1 and L2 norm of L tensors (T, *shape): (T, 4L).

    The L1 norm of n weights is divided by sqrt(n), which makes it at most the L2 norm. Undivided it
    is thousands for a wide layer, and R's gradient with FiLM outweighs that of the base loss from
    the start.
    """
    numbers = []
    for tensor in weights:
        w = tensor.flatten(1)
        numbers += [w.mean(1), w.std(1, correction=0), l1(w), w.norm(dim=1)]
    return torch.stack(numbers, 1)


def l1(w: Tensor) -> Tensor:
    """The sum of magnitudes, divided by sqrt(n): (T, n) -> (T,)."""
    return w.abs().sum(1) / math.sqrt(w.shape[1])


def components_of(loss: str, inductive: bool) -> set[str]:
    """The components that the setting `loss` names: all, none, or names joined by ``+``.

    ``all`` is without query for an inductive learner.

    Raises:
        UsageError: there is no such component, or an inductive learner cannot have it.
    """
    if loss == "none":
        return set()
    if loss == "all":
        return {"support", "regulariser"} if inductive else set(COMPONENTS)
    names = loss.split("+")
    for name in names:
        if name not in COMPONENTS:
            choices = f"{', '.join(COMPONENTS)}, joined by +, or all or none"
            raise UsageError(f"loss: no component {name!r}: choose from {choices}")
    if inductive and "query" in names:
        raise UsageError("loss query: reads the queries, so it is not for inductive=true")
    return set(names)

"""Fast weights: layers that use several sets of weights at once, and networks that make weights.

The weights of a `FastTail` are one flat vector of P numbers, called coordinates. The networks that
read gradients and write weights (`ByLSTM`, `ByMLP`) treat all coordinates alike.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from zoo.backbone_contract import features_of
from zoo.errors import UsageError
from zoo.networks.conv5 import PlainConvNet


class FastTail(nn.Module):
    """The last layers of a network: blocks of convolutions, a fully connected layer, logits.

    It runs with several sets of weights at once, its own and fast ones: the output of each layer is
    the sum of its outputs with each set (Meta Networks, section 3.3). It has no biases.
    """

    def __init__(
        self, maps: tuple[int, int, int], convs: int, channels: int, hidden: int, way: int
    ) -> None:
        """Draw the slow weights.

        Args:
            maps: (C, H, W) of the input; (D, 1, 1) for D features.
            convs: how many blocks of 3x3 convolution, ReLU, 2x2 max-pool.
            channels: of each block.
            hidden: units H of the fully connected layer.
            way: N.
        """
        super().__init__()
        self.maps, self.convs = maps, convs
        sizes = [maps[0], *[channels] * convs]
        height, width = (math.ceil(side / 2**convs) for side in maps[1:])
        self.shapes = [(o, 9 * i) for i, o in pairwise(sizes)]
        self.shapes += [(hidden, sizes[-1] * height * width), (way, hidden)]
        self.weights = nn.Parameter(torch.empty(sum(map(math.prod, self.shapes))))
        draw_weights(self)

    def layers(self, weights: Tensor) -> list[Tensor]:
        """The part of each layer: (..., P) -> (..., O, I) per layer."""
        parts = weights.split([math.prod(shape) for shape in self.shapes], -1)
        return [part.unflatten(-1, s) for part, s in zip(parts, self.shapes, strict=True)]

    def forward(self, z: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        """The fully connected layer's output before its ReLU (T, n, H), and the logits (T, n, N).

        z (T, n, C*H*W); each of `weights` is (P,), or (T, 1, P) with one set per task, or (T, n, P)
        with one set per example.
        """
        layers = list(zip(*(self.layers(w) for w in weights), strict=True))
        maps = z.unflatten(-1, self.maps)
        for layer in layers[: self.convs]:
            maps = fast_block(maps, layer)
        x = maps.flatten(2).unsqueeze(2)  # (T, n, 1, D)
        *_, hidden, head = layers
        outputs = [x @ w.mT for w in hidden]
        h = sum_of([F.relu(output) for output in outputs])
        logits = sum_of([h @ w.mT for w in head])
        return sum_of(outputs).squeeze(2), logits.squeeze(2)


def fast_block(maps: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """max_pool of the sum of relu(conv) over weights: (T, n, C, H, W) -> (T, n, O, H', W').

    Each of `weights` is (..., O, 9C). The convolutions are products of patches with weights, so
    that each example can have weights of its own.
    """
    patches = F.unfold(maps.flatten(0, 1), 3, padding=1).unflatten(0, maps.shape[:2]).mT
    h = sum_of([F.relu(patches @ w.mT) for w in weights])  # (T, n, H*W, O)
    h = h.mT.unflatten(-1, maps.shape[-2:]).flatten(0, 1)
    return F.max_pool2d(h, 2, ceil_mode=True).unflatten(0, maps.shape[:2])


def split_network(
    backbone: nn.Module, convs: int, hidden: int, way: int
) -> tuple[nn.Module, FastTail]:
    """Divide a network into a trunk, which has slow weights only, and a tail.

    Args:
        backbone: from images to D features. A `PlainConvNet` is built again with fresh weights; any
            other is copied, and is the whole trunk.
        convs: how many of the last convolutions of a `PlainConvNet` belong to the tail.
        hidden: units H of the fully connected layer.
        way: N.

    Raises:
        UsageError: the network does not have so many convolutions.
    """
    if isinstance(backbone, PlainConvNet):
        if not 0 <= convs <= backbone.depth:
            raise UsageError(f"fast_convs {convs}: expected a number from 0 to {backbone.depth}")
        trunk: nn.Module = backbone.shortened(convs)
        draw_weights(trunk)
        tail = FastTail(trunk.shape, convs, backbone.channels, hidden, way)  # type: ignore[arg-type]
    else:
        trunk = deepcopy(backbone)
        tail = FastTail((features_of(backbone), 1, 1), 0, 0, hidden, way)
    return trunk, tail


def draw_weights(net: nn.Module, last: nn.Module | None = None) -> None:
    """Draw all weights from U[-0.1, 0.1) (Meta Networks, section 4); the bias of `last` is zero.

    The bias of the last layer is added to all fast weights alike. If it were not zero, the first
    logits of a layer with hundreds of inputs would be so large that training silences the network
    (conv5 with 64 channels).
    """
    for weight in net.parameters():
        nn.init.uniform_(weight, -0.1, 0.1)
    if last is not None:
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]


class SideBySide(nn.Module):
    """Two networks on the same images."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, 2D): the features of one, then of the other."""
        return torch.cat([self.first(x), self.second(x)], -1)


def sum_of(parts: list[Tensor]) -> Tensor:
    """The sum of tensors, which may broadcast."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def preprocess(g: Tensor, p: float) -> Tensor:
    """(log|g| / p, sgn g) where |g| >= e^-p, else (-1, e^p g): (...) -> (..., 2).

    Andrychowicz et al. 2016, appendix A.
    """
    threshold = math.exp(-p)
    size = g.abs().clamp(min=threshold).log() / p
    return torch.stack([size, (g / threshold).clamp(-1, 1)], -1)


class ByLSTM(nn.Module):
    """Makes weights from a sequence of gradients, by one LSTM that all coordinates share."""

    def __init__(self, units: int, p: float) -> None:
        super().__init__()
        self.p = p
        self.lstm = nn.LSTM(2, units)
        self.out = nn.Linear(units, 1)
        draw_weights(self, self.out)

    def forward(self, g: Tensor) -> Tensor:
        """(T, steps, P) -> (T, 1, P)."""

        def weights_of_task(gradients: Tensor) -> Tensor:
            h = last_output(self.lstm, preprocess(gradients, self.p).mT)
            return self.out(h.T).unsqueeze(0)

        return task_by_task(weights_of_task, g)


def last_output(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """The last output of an LSTM of one layer that starts at zero: (steps, I, P) -> (H, P).

    With thousands of sequences P, this is faster than calling `lstm`, which needs their numbers in
    another order in memory.
    """
    of_input, of_h, bias_of_input, bias_of_h = lstm.all_weights[0]
    weight = torch.cat([of_input, of_h], 1)  # (4H, I + H)
    bias = (bias_of_input + bias_of_h).unsqueeze(1)
    h = c = x.new_zeros(lstm.hidden_size, x.shape[-1])
    for step in x:
        gates = torch.addmm(bias, weight, torch.cat([step, h]))
        i, f, cell, o = gates.chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * cell.tanh()
        h = o.sigmoid() * c.tanh()
    return h


class ByMLP(nn.Module):
    """Makes weights from each gradient, by a three-layer network that all coordinates share."""

    def __init__(self, units: int, p: float) -> None:
        super().__init__()
        self.p = p
        self.layers = nn.Sequential(
            nn.Linear(2, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 1)
        )
        draw_weights(self, self.layers[-1])

    def forward(self, g: Tensor) -> Tensor:
        """(T, n, P) -> (T, n, P)."""

        def weights_of_task(gradients: Tensor) -> Tensor:
            return self.layers(preprocess(gradients, self.p))

        return task_by_task(weights_of_task, g)


def task_by_task(make: Callable[[Tensor], Tensor], g: Tensor) -> Tensor:
    """Call `make` on each task's gradients, (..., P) -> (..., P, 1), and stack: (T, ..., P).

    `make` computes dozens of numbers from each one. If there are several tasks, these are not kept
    in memory for the derivative, but computed again, one task at a time.
    """
    if len(g) == 1:
        return make(g[0]).unsqueeze(0).squeeze(-1)
    weights = [checkpoint(make, task, use_reentrant=False, preserve_rng_state=False) for task in g]
    return torch.stack(weights).squeeze(-1)


def attention(r: Tensor, keys: Tensor) -> Tensor:
    """Softmax of cosines: (T, n, H), (T, N*K, H) -> (T, n, N*K) (section 3.2)."""
    return (F.normalize(r, dim=-1) @ F.normalize(keys, dim=-1).mT).softmax(-1)


def contrastive(r: Tensor, s: Tensor, same: Tensor, margin: float) -> Tensor:
    """The loss of pairs at distance d: d^2 if `same` class, else max(0, margin - d)^2.

    r and s (..., H), same (...) -> (...)
    """
    square = (r - s).square().sum(-1)
    return torch.where(same, square, F.relu(margin - (square + 1e-6).sqrt()).square())


def pairs(z: Tensor, y: Tensor, way: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of support examples: at most `count`, and at most 2N.

    Every other pair is two examples of one class, the next one an example of this class and one of
    the class behind it; classes come in their order. With fewer than 2N pairs the last classes may
    be in none. Of each class only the first two examples are used; the support's order is random.

    Args:
        z: features (T, N*K, D), with K at least 2.
        y: (T, N*K).
        way: N.
        count: how many pairs.

    Returns:
        Features of one example of each pair, (T, n, D), of the other, (T, n, D), and whether they
        are of one class, (T, n).
    """
    places = y.argsort(stable=True).unflatten(1, (way, -1))  # (T, N, K)
    number = torch.arange(min(count, 2 * way), device=y.device)
    first_class = number // 2
    second_class = (number // 2 + number % 2) % way
    one, other = places[:, first_class, 0], places[:, second_class, 1]
    same = (number % 2 == 0).expand(len(y), -1)
    return take(z, one), take(z, other), same


def take(z: Tensor, places: Tensor) -> Tensor:
    """Each task's examples at some places: (T, n, D), (T, m) -> (T, m, D)."""
    return z.take_along_dim(places.unsqueeze(-1), 1)

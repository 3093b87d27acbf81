"""Fast weights: layers that take several weights at once, and networks that make them.

The weights of a `FastTail` are one flat vector of P numbers, *coordinates*, so that those who read
gradients and write weights (`ByLSTM`, `ByMLP`) treat every coordinate alike.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from zoo.errors import UsageError
from zoo.networks.backbone import features_of
from zoo.networks.conv5 import PlainConvNet


class FastTail(nn.Module):
    """The last layers of a network: convolution blocks, a fully connected layer, logits.

    It runs with any number of weights side by side, its own and fast ones: each layer is the sum of
    what it is under each of them (Meta Networks, section 3.3). It has no biases.
    """

    def __init__(
        self, maps: tuple[int, int, int], convs: int, channels: int, hidden: int, way: int
    ) -> None:
        """Know the layers' shapes.

        Args:
            maps: (C, H, W) of what comes in; (D, 1, 1) for D features.
            convs: how many blocks of 3x3 convolution, ReLU, 2x2 max-pool.
            channels: of each block.
            hidden: units H of the fully connected layer.
            way: N.
        """
        super().__init__()
        self.maps, self.convs = maps, convs
        sizes = [maps[0], *[channels] * convs]
        height, width = (-(-side // 2**convs) for side in maps[1:])
        self.shapes = [(o, 9 * i) for i, o in pairwise(sizes)]
        self.shapes += [(hidden, sizes[-1] * height * width), (way, hidden)]
        self.weights = nn.Parameter(torch.empty(sum(map(math.prod, self.shapes))))
        random_rows(self)

    def layers(self, weights: Tensor) -> list[Tensor]:
        """Each layer's own part: (..., P) -> (..., O, I) a layer."""
        parts = weights.split([math.prod(shape) for shape in self.shapes], -1)
        return [part.unflatten(-1, s) for part, s in zip(parts, self.shapes, strict=True)]

    def forward(self, z: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        """What the fully connected layer says before its ReLU, and the logits.

        z (T, n, C*H*W); weights (P,), or a task's (T, 1, P), or an example's (T, n, P)
        -> (T, n, H), (T, n, N)
        """
        layers = list(zip(*map(self.layers, weights), strict=True))
        maps = z.unflatten(-1, self.maps)
        for layer in layers[: self.convs]:
            maps = fast_block(maps, layer)
        x = maps.flatten(2).unsqueeze(2)  # (T, n, 1, D)
        *_, hidden, head = layers
        parts = [x @ w.mT for w in hidden]
        h = sum_of([F.relu(part) for part in parts])
        logits = sum_of([h @ w.mT for w in head])
        return sum_of(parts).squeeze(2), logits.squeeze(2)


def fast_block(maps: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """max_pool(sum of relu(conv)) over weights (..., O, 9C): (T, n, C, H, W) -> (T, n, O, ...).

    A convolution is a product of patches with weights; so each example can have its own.
    """
    patches = F.unfold(maps.flatten(0, 1), 3, padding=1).unflatten(0, maps.shape[:2]).mT
    h = sum_of([F.relu(patches @ w.mT) for w in weights])  # (T, n, H*W, O)
    h = h.mT.unflatten(-1, maps.shape[-2:]).flatten(0, 1)
    return F.max_pool2d(h, 2, ceil_mode=True).unflatten(0, maps.shape[:2])


def split_rows(
    backbone: nn.Module, convs: int, hidden: int, way: int
) -> tuple[nn.Module, FastTail]:
    """A network in two: what has slow weights only, and its tail.

    Args:
        backbone: from images to D features; of a plain one only the form is taken.
        convs: how many of the last convolutions go to the tail, where it is a plain one.
        hidden: units H of the fully connected layer behind it.
        way: N.

    Raises:
        UsageError: the network has not so many convolutions.
    """
    if isinstance(backbone, PlainConvNet):
        if not 0 <= convs <= backbone.depth:
            raise UsageError(f"fast_convs {convs}: expected a number from 0 to {backbone.depth}")
        trunk: nn.Module = backbone.shortened(convs)
        random_rows(trunk)
        tail = FastTail(trunk.shape, convs, backbone.channels, hidden, way)  # type: ignore[arg-type]
    else:
        trunk = deepcopy(backbone)
        tail = FastTail((features_of(backbone), 1, 1), 0, 0, hidden, way)
    return trunk, tail


def random_rows(net: nn.Module, out: nn.Module | None = None) -> None:
    """Draw all weights from U[-0.1, 0.1) (Meta Networks, section 4), but no bias of a last layer.

    A bias there is a fast weight for all coordinates alike: under hundreds of inputs the first
    logits are so large that training silences the network (conv5 with 64 channels).
    """
    for weight in net.parameters():
        nn.init.uniform_(weight, -0.1, 0.1)
    if out is not None:
        nn.init.zeros_(out.bias)  # type: ignore[arg-type]


class Beside(nn.Module):
    """Two networks on the same images."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, 2D): the features of one, then of the other."""
        return torch.cat([self.first(x), self.second(x)], -1)


def sum_of(parts: list[Tensor]) -> Tensor:
    """Of tensors that broadcast."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def preprocess(g: Tensor, p: float) -> Tensor:
    """(log|g| / p, sgn g) where |g| >= e^-p, else (-1, e^p g): (...) -> (..., 2).

    Andrychowicz et al. 2016, appendix A.
    """
    least = math.exp(-p)
    size = g.abs().clamp(min=least).log() / p
    return torch.stack([size, (g / least).clamp(-1, 1)], -1)


class ByLSTM(nn.Module):
    """Weights from a sequence of gradients, by one LSTM that all coordinates share."""

    def __init__(self, units: int, p: float) -> None:
        super().__init__()
        self.p = p
        self.lstm = nn.LSTM(2, units)
        self.out = nn.Linear(units, 1)
        random_rows(self, self.out)

    def forward(self, g: Tensor) -> Tensor:
        """(T, steps, P) -> (T, 1, P)."""
        return task_by_task(lambda task: self.out(self.lstm(preprocess(task, self.p))[1][0]), g)


class ByMLP(nn.Module):
    """Weights from one gradient each, by a three-layer network that all coordinates share."""

    def __init__(self, units: int, p: float) -> None:
        super().__init__()
        self.p = p
        self.layers = nn.Sequential(
            nn.Linear(2, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 1)
        )
        random_rows(self, self.layers[-1])

    def forward(self, g: Tensor) -> Tensor:
        """(T, n, P) -> (T, n, P)."""
        return task_by_task(lambda task: self.layers(preprocess(task, self.p)), g)


def task_by_task(make: Callable[[Tensor], Tensor], g: Tensor) -> Tensor:
    """make(each task's g) -> (..., P, 1), stacked: (T, ..., P).

    On the way each number becomes dozens. So of several tasks none keeps them for the derivative:
    they are made anew, a task at a time.
    """
    if len(g) == 1:
        return make(g[0]).unsqueeze(0).squeeze(-1)
    made = [checkpoint(make, task, use_reentrant=False, preserve_rng_state=False) for task in g]
    return torch.stack(made).squeeze(-1)


def attention(r: Tensor, keys: Tensor) -> Tensor:
    """Softmax of cosines: (T, n, H), (T, N*K, H) -> (T, n, N*K) (section 3.2)."""
    return (F.normalize(r, dim=-1) @ F.normalize(keys, dim=-1).mT).softmax(-1)


def contrastive(r: Tensor, s: Tensor, same: Tensor, margin: float) -> Tensor:
    """d^2 of two of one class, max(0, margin - d)^2 of two of two: (..., H), (...) -> (...)."""
    square = (r - s).square().sum(-1)
    return torch.where(same, square, F.relu(margin - (square + 1e-6).sqrt()).square())


def pairs(z: Tensor, y: Tensor, way: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features of two examples, in turn of one class and of two, and whether they are of one.

    Of each class the first two that the support has, in its random order; at most 2N pairs.

    z (T, N*K, D), y (T, N*K) -> (T, n, D), (T, n, D), (T, n)
    """
    places = y.argsort(stable=True).unflatten(1, (way, -1))  # (T, N, K)
    turn = torch.arange(min(count, 2 * way), device=y.device)
    first, second = turn // 2, (turn // 2 + turn % 2) % way
    one, other = places[:, first, 0], places[:, second, 1]
    same = (turn % 2 == 0).expand(len(y), -1)
    return take(z, one), take(z, other), same


def take(z: Tensor, places: Tensor) -> Tensor:
    """Some of each task's examples: (T, n, D), (T, m) -> (T, m, D)."""
    return z.take_along_dim(places.unsqueeze(-1), 1)

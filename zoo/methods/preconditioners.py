"""What the inner learning rate multiplies: theta' = theta - lr P(g), with a P that is learned."""

import copy
import math
from collections.abc import Callable, Collection
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.batch_norm import BatchNorm
from zoo.errors import UsageError
from zoo.networks.layers import Conv, FiLM, block

Params = dict[str, Tensor]  # name -> (T, *shape)


class Preconditioner(nn.Module):
    """P, and where the inner loop starts; this one leaves both as they are."""

    def drawn(self, tasks: int) -> Self:
        """This one, with what it draws anew for each of T tasks; its parameters stay shared."""
        return self

    def moves(self, name: str) -> bool:
        """Whether the inner loop moves this parameter; where not, it is the same for all tasks."""
        return True

    def start(self, theta: Params) -> Params:
        """What the inner loop starts from, given the network's own parameters."""
        return theta

    def forward(self, step: int, gradients: Params) -> Params:
        """P(g) in step 0, 1, ...: of the parameters that move, under the same names."""
        return gradients


class Only(Preconditioner):
    """Some parameters move, by the gradient itself."""

    def __init__(self, names: Collection[str]) -> None:
        """Their names."""
        super().__init__()
        self.names = frozenset(names)

    def moves(self, name: str) -> bool:
        """Whether it is one of them."""
        return name in self.names


class Chain(Preconditioner):
    """One preconditioner upon another."""

    def __init__(self, *parts: Preconditioner) -> None:
        """The first has the gradient itself."""
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def drawn(self, tasks: int) -> Self:
        """Each with its own draws."""
        drawn = copy.copy(self)
        drawn._modules = {"parts": nn.ModuleList([p.drawn(tasks) for p in self.each()])}
        return drawn

    def each(self) -> list[Preconditioner]:
        """The parts."""
        return list(self.parts)  # type: ignore[arg-type]

    def moves(self, name: str) -> bool:
        """Where all of them say so."""
        return all(part.moves(name) for part in self.each())

    def start(self, theta: Params) -> Params:
        """Through each in turn."""
        for part in self.each():
            theta = part.start(theta)
        return theta

    def forward(self, step: int, gradients: Params) -> Params:
        """Through each in turn."""
        for part in self.each():
            gradients = part(step, gradients)
        return gradients


def convolutions(net: nn.Module, names: Collection[str] | None) -> dict[str, nn.Parameter]:
    """The weights of convolutions among them.

    Raises:
        UsageError: there are none.
    """
    found = {name: p for name, p in chosen(net, names).items() if p.dim() == 4}
    if not found:
        raise UsageError("preconditioner: this one is for convolutions, and none is to move")
    return found


def chosen(net: nn.Module, names: Collection[str] | None) -> dict[str, nn.Parameter]:
    """The parameters that a network learns, or those of them that are named, in its order.

    Frozen ones are left out. A network frozen as a whole, as a learner may be for its test, counts
    as one that learns all of them.
    """
    every = dict(net.named_parameters())
    learned = {n: p for n, p in every.items() if p.requires_grad} or every
    return {n: p for n, p in learned.items() if names is None or n in names}


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


class Rate(Preconditioner):
    """One rate for all."""

    def __init__(self) -> None:
        """A rate of 1."""
        super().__init__()
        self.rate = nn.Parameter(torch.ones(()))

    def forward(self, step: int, gradients: Params) -> Params:
        """Rate times gradients."""
        return {name: self.rate * g for name, g in gradients.items()}


class Diagonal(Preconditioner):
    """A rate for each element of each parameter (Meta-SGD)."""

    def __init__(self, net: nn.Module, names: Collection[str] | None = None) -> None:
        """Rates of 1 for the parameters of `net`, or for those that move."""
        super().__init__()
        self.rates = nn.ParameterList([torch.ones_like(p) for p in chosen(net, names).values()])

    def forward(self, step: int, gradients: Params) -> Params:
        """Rate times gradient, element by element."""
        return {
            name: rate * g for rate, (name, g) in zip(self.rates, gradients.items(), strict=True)
        }


class LayerRates(Preconditioner):
    """A rate for each parameter tensor and step (MAML++); steps behind the last take its rates."""

    def __init__(self, net: nn.Module, steps: int, names: Collection[str] | None = None) -> None:
        """Rates of 1 for the parameters of `net`, or for those that move, in so many steps."""
        super().__init__()
        self.rates = nn.Parameter(torch.ones(max(1, steps), len(chosen(net, names))))

    def forward(self, step: int, gradients: Params) -> Params:
        """The step's rates times gradients."""
        rates = self.rates[min(step, len(self.rates) - 1)]
        return {name: rate * g for rate, (name, g) in zip(rates, gradients.items(), strict=True)}


class TNet(Preconditioner):
    """Every layer maps by T W, and steps move W alone; with masks M, some rows of W (MT-net).

    The parameters here are the products T W, on which a step on W is T M T^T g. Layers are what
    has a weight of two axes or more: T is on its outputs, and the bias, if any, is under T too.

    A batch norm by batch statistics behind a layer takes out whatever positive number a channel was
    multiplied by. There the diagonal of T learns no rates: multiplying a row of T by a positive
    number changes neither a prediction nor what a step does to it, but for the norm's epsilon.
    Entries off the diagonal, which mix channels, do act; so does the whole T of a layer without a
    norm behind it, such as a head's N x N one.
    """

    def __init__(
        self, net: nn.Module, mask: bool = False, names: Collection[str] | None = None
    ) -> None:
        """T = 1 for the layers of `net`, or for those whose weights are named.

        With `mask`, log-odds of 0 that an output moves.
        """
        super().__init__()
        known = chosen(net, names)
        self.layer: dict[str, int] = {}  # of each parameter that has one, by name
        outputs: list[int] = []
        for prefix, module in net.named_modules():
            weight = known.get(f"{prefix}.weight".lstrip("."))
            if weight is not None and weight.dim() > 1:
                own = module.named_parameters(prefix, recurse=False)
                self.layer |= {name: len(outputs) for name, p in own if p.requires_grad}
                outputs.append(len(weight))
        self.transforms = nn.ParameterList([torch.eye(n) for n in outputs])
        self.log_odds = nn.ParameterList([torch.zeros(n) for n in outputs] if mask else [])
        self.noise: list[Tensor] = []

    def drawn(self, tasks: int) -> Self:
        """In training: with masks drawn for each task, the same in all its steps."""
        if not self.training:
            return self
        drawn = copy.copy(self)
        drawn.noise = [logistic_noise(tasks, zeta) for zeta in self.log_odds]
        return drawn

    def masks(self, layer: int) -> Tensor:
        """M, (T, outputs): drawn with a straight-through gradient, or its mean where it was not."""
        zeta = self.log_odds[layer]
        if not self.noise:
            return zeta.sigmoid().unsqueeze(0)
        soft = (zeta + self.noise[layer]).sigmoid()  # two-way Gumbel-softmax at temperature 1
        return (soft > 0.5).to(soft) - soft.detach() + soft

    def start(self, theta: Params) -> Params:
        """T W of each layer."""
        return {
            name: self._mixed("ij,tj...->ti...", name, p) if name in self.layer else p
            for name, p in theta.items()
        }

    def forward(self, step: int, gradients: Params) -> Params:
        """T M T^T g of each layer; what is under no T, as batch norm's, keeps its gradient."""
        return {
            name: self._moved(name, g) if name in self.layer else g for name, g in gradients.items()
        }

    def _moved(self, name: str, g: Tensor) -> Tensor:
        g = self._mixed("ji,tj...->ti...", name, g)
        if self.log_odds:
            m = self.masks(self.layer[name])
            g = m.view(*m.shape, *[1] * (g.dim() - 2)) * g
        return self._mixed("ij,tj...->ti...", name, g)

    def _mixed(self, axes: str, name: str, p: Tensor) -> Tensor:
        return torch.einsum(axes, self.transforms[self.layer[name]], p)


class Warp(TNet):
    """NPBML's omega: 1x1 convolutions between convolutions and their norms, moved by no step.

    With theta for omega's and the convolution's product, a step is omega omega^T g. The norm takes
    out omega's diagonal, as it does T-Net's, and the head has no omega: no rates are learned.
    """

    def __init__(self, net: nn.Module, names: Collection[str] | None = None) -> None:
        """Omega = 1 for the convolutions of `net`, or for those of them that are named."""
        super().__init__(net, names=convolutions(net, names))


class WarpLayer(nn.Module):
    """A 3x3 convolution with a batch norm, and FiLM where asked for; no ReLU."""

    def __init__(self, channels: int, batch_norm: str, film: bool) -> None:
        """It starts as the batch norm alone, with FiLM as nearly that.

        Args:
            channels: C of the maps.
            batch_norm: the norm's mode.
            film: whether FiLM modulates the norm, by the means over pixels of the maps.
        """
        super().__init__()
        self.conv, self.norm = Conv(channels, channels), BatchNorm(channels, batch_norm)
        nn.init.dirac_(self.conv.weight)
        if film:
            self.norm.film = FiLM(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """(n, T*C, H, W) -> the same shape."""
        return block(maps, self.conv, self.norm, relu=False)


class PostBlock(Preconditioner):
    """A `WarpLayer` behind a block, which no inner step moves (NPBML's code, after WarpGrad)."""

    def __init__(self, net: nn.Module, names: Collection[str] | None = None) -> None:
        """Put them into `net`, a backbone of blocks or what holds one.

        Each has the mode of its block's batch norm, and FiLM where the block has it.

        Args:
            net: where they, and their parameters, go.
            names: of parameters; behind the blocks that have one of them. None for all blocks.

        Raises:
            UsageError: there is no backbone of blocks in `net`.
        """
        super().__init__()
        found = [(n, part) for n, part in net.named_modules() if hasattr(part, "after")]
        if not found:
            raise UsageError("post_block: needs a backbone of blocks, as conv4 and resnet12")
        prefix, backbone = found[0]
        self.under = f"{prefix}.after.".lstrip(".")
        weights = {id(p) for p in chosen(net, names).values()}
        for number, channels in enumerate(backbone.widths):
            layers = backbone.layers(number)
            if any(id(conv.weight) in weights for conv, _ in layers):
                _, norm = layers[0]
                layer = WarpLayer(channels, norm.mode, film=norm.film is not None)
                backbone.after[str(number)] = layer

    def moves(self, name: str) -> bool:
        """All but these."""
        return not name.startswith(self.under)


PRECONDITIONERS: dict[str, Callable[[nn.Module, Collection[str] | None], Preconditioner]] = {
    "none": lambda net, names: Preconditioner(),
    "warp": Warp,
    "post_block": PostBlock,
    "rate": lambda net, names: Rate(),
    "layer_rates": lambda net, names: LayerRates(net, 1, names),
    "element_rates": Diagonal,
    "meta_curvature": MetaCurvature,
    "gap": GAP,
}


def build_preconditioner(
    kind: str, net: nn.Module, names: Collection[str] | None = None
) -> Preconditioner:
    """The preconditioner of that name, for the parameters of `net` that are named, or for all.

    Raises:
        UsageError: there is none of that name.
    """
    if kind not in PRECONDITIONERS:
        raise UsageError(f"preconditioner: no {kind!r}: choose from {', '.join(PRECONDITIONERS)}")
    return PRECONDITIONERS[kind](net, names)


def logistic_noise(tasks: int, like: Tensor) -> Tensor:
    """Logistic noise, the difference of two Gumbels: (T, *shape of `like`)."""
    u = torch.rand(tasks, *like.shape, dtype=like.dtype, device=like.device)
    return u.clamp(1e-6, 1 - 1e-6).logit()

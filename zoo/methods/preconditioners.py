"""Learned preconditioners P of the gradient g in an inner step: theta' = theta - lr P(g)."""

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
    """P, and where the inner loop starts. This one changes neither: P(g) = g, from theta."""

    def drawn(self, tasks: int) -> Self:
        """This preconditioner with new random draws, if it has any, for each of T tasks.

        Its parameters stay the same objects.
        """
        return self

    def moves(self, name: str) -> bool:
        """Whether the inner loop moves this parameter; if not, it is the same for all tasks."""
        return True

    def start(self, theta: Params) -> Params:
        """What the inner loop starts from, given the network's own parameters."""
        return theta

    def forward(self, step: int, gradients: Params) -> Params:
        """P(g) in step 0, 1, ...: of the parameters that move, under the same names."""
        return gradients


class Only(Preconditioner):
    """Moves only the named parameters, by the gradient itself."""

    def __init__(self, names: Collection[str]) -> None:
        """Move the parameters of these names."""
        super().__init__()
        self.names = frozenset(names)

    def moves(self, name: str) -> bool:
        """Whether it is one of these names."""
        return name in self.names


class Chain(Preconditioner):
    """Several preconditioners, one after the other."""

    def __init__(self, *parts: Preconditioner) -> None:
        """The first one gets the gradient itself."""
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def drawn(self, tasks: int) -> Self:
        """The chain of the parts' `drawn`."""
        drawn = copy.copy(self)
        drawn._modules = {"parts": nn.ModuleList([p.drawn(tasks) for p in self.each()])}
        return drawn

    def each(self) -> list[Preconditioner]:
        """The parts, in their order."""
        return list(self.parts)  # type: ignore[arg-type]

    def moves(self, name: str) -> bool:
        """Whether all parts move it."""
        return all(part.moves(name) for part in self.each())

    def start(self, theta: Params) -> Params:
        """Pass theta through each part in turn."""
        for part in self.each():
            theta = part.start(theta)
        return theta

    def forward(self, step: int, gradients: Params) -> Params:
        """Pass the gradients through each part in turn."""
        for part in self.each():
            gradients = part(step, gradients)
        return gradients


def learned_parameters(net: nn.Module, names: Collection[str] | None) -> dict[str, nn.Parameter]:
    """The parameters of a network that are not frozen, in its order; with `names`, only these.

    If all are frozen, as in a learner that is frozen for its test, all count as not frozen.
    """
    every = dict(net.named_parameters())
    learned = {name: p for name, p in every.items() if p.requires_grad} or every
    return {name: p for name, p in learned.items() if names is None or name in names}


def convolutions(net: nn.Module, names: Collection[str] | None) -> dict[str, nn.Parameter]:
    """The weights of convolutions among the `learned_parameters`.

    Raises:
        UsageError: there are none.
    """
    weights = {name: p for name, p in learned_parameters(net, names).items() if p.dim() == 4}
    if not weights:
        raise UsageError("preconditioner: this one is for convolutions, and no step moves any")
    return weights


class MetaCurvature(Preconditioner):
    """Multiplies a layer's gradient G by matrices on outputs, inputs and pixels.

    G x M_o x M_i x M_f, Park & Oliva 2019, arXiv 1902.03356. The gradient of a parameter with one
    axis, such as a bias, stays as it is.
    """

    def __init__(self, net: nn.Module, names: Collection[str] | None = None) -> None:
        """Start with identity matrices, for all layers of `net` or those with named weights."""
        super().__init__()
        layers = {name: p for name, p in learned_parameters(net, names).items() if p.dim() > 1}
        self.first = {name: 3 * number for number, name in enumerate(layers)}
        sizes = [(len(p), p.shape[1], math.prod(p.shape[2:])) for p in layers.values()]
        self.matrices = nn.ParameterList([torch.eye(n) for layer in sizes for n in layer])

    def forward(self, step: int, gradients: Params) -> Params:
        """Multiply each layer's gradient by its three matrices."""
        return {n: self._multiplied(n, g) if n in self.first else g for n, g in gradients.items()}

    def _multiplied(self, name: str, g: Tensor) -> Tensor:
        product = g.reshape(*g.shape[:3], -1)  # (T, O, I, pixels)
        for axis in range(3):
            m = self.matrices[self.first[name] + axis]
            last = product.transpose(axis + 1, -1)
            # A head of one row that became N rows has a 1x1 matrix, which scales all of them.
            last = m * last if len(m) == 1 else last @ m.mT
            product = last.transpose(axis + 1, -1)
        return product.reshape(g.shape)


class GAP(Preconditioner):
    """Multiplies the singular directions of a convolution's gradient by rates: U diag(rates) U^T g.

    Kang et al. 2023, arXiv 2304.01552 [conv layers only, rates softplus(M)]. U is a constant to the
    outer loop, so the meta-gradient does not go through the SVD.
    """

    def __init__(self, net: nn.Module, names: Collection[str] | None = None) -> None:
        """Start with rates of 1, for all convolutions of `net` or those that are named."""
        super().__init__()
        layers = convolutions(net, names)
        self.number = {name: number for number, name in enumerate(layers)}
        ranks = [min(len(p), p[0].numel()) for p in layers.values()]
        start = math.log(math.exp(2) - 1) / 2  # its softplus, with beta 2, is 1
        self.logits = nn.ParameterList([torch.full((rank,), start) for rank in ranks])

    def forward(self, step: int, gradients: Params) -> Params:
        """Stretch the directions of each convolution's gradient."""
        return {n: self._stretched(n, g) if n in self.number else g for n, g in gradients.items()}

    def _stretched(self, name: str, g: Tensor) -> Tensor:
        flat = g.flatten(2)  # (T, O, I * pixels)
        u, _, _ = torch.linalg.svd(flat.detach(), full_matrices=False)
        rates = F.softplus(self.logits[self.number[name]], 2)
        return ((u * rates) @ (u.mT @ flat)).view_as(g)


class Rate(Preconditioner):
    """One learned rate for all parameters."""

    def __init__(self) -> None:
        """Start with a rate of 1."""
        super().__init__()
        self.rate = nn.Parameter(torch.ones(()))

    def forward(self, step: int, gradients: Params) -> Params:
        """Rate times gradients."""
        return {name: self.rate * g for name, g in gradients.items()}


class Diagonal(Preconditioner):
    """A rate for each element of each parameter (Meta-SGD)."""

    def __init__(self, net: nn.Module, names: Collection[str] | None = None) -> None:
        """Start with rates of 1, for all learned parameters of `net` or those that are named."""
        super().__init__()
        parameters = learned_parameters(net, names)
        self.rates = nn.ParameterList([torch.ones_like(p) for p in parameters.values()])

    def forward(self, step: int, gradients: Params) -> Params:
        """Rate times gradient, element by element."""
        return {
            name: rate * g for rate, (name, g) in zip(self.rates, gradients.items(), strict=True)
        }


class LayerRates(Preconditioner):
    """A rate for each parameter tensor and step (MAML++); later steps use the last step's rates."""

    def __init__(self, net: nn.Module, steps: int, names: Collection[str] | None = None) -> None:
        """Start with rates of 1, for all learned parameters of `net` or those that are named."""
        super().__init__()
        self.rates = nn.Parameter(torch.ones(max(1, steps), len(learned_parameters(net, names))))

    def forward(self, step: int, gradients: Params) -> Params:
        """The step's rates times the gradients."""
        rates = self.rates[min(step, len(self.rates) - 1)]
        return {name: rate * g for rate, (name, g) in zip(rates, gradients.items(), strict=True)}


class TNet(Preconditioner):
    """Every layer has weights T W, and steps move W alone; with masks M only some rows (MT-net).

    The parameters here are the products T W, on which a step on W is T M T^T g. A layer is a module
    whose weight has two axes or more: T mixes its outputs, and applies to its bias too.

    A batch norm behind a layer, if by batch statistics, undoes any positive factor on a channel. So
    there the diagonal of T learns no rates: multiplying a row of T by a positive number changes no
    prediction, neither before nor after a step, apart from the norm's epsilon. The entries off the
    diagonal, which mix channels, do matter; so does the whole T of a layer without a norm behind
    it, such as the N x N one of a head.
    """

    def __init__(
        self, net: nn.Module, mask: bool = False, names: Collection[str] | None = None
    ) -> None:
        """Start with T = 1, for all layers of `net` or those whose weights are named.

        With `mask`, start with log-odds of 0 that an output moves.
        """
        super().__init__()
        parameters = learned_parameters(net, names)
        self.layer: dict[str, int] = {}  # parameter name -> number of its layer
        outputs: list[int] = []
        for prefix, module in net.named_modules():
            weight = parameters.get(f"{prefix}.weight".lstrip("."))
            if weight is not None and weight.dim() > 1:
                for name, p in module.named_parameters(prefix, recurse=False):
                    if p.requires_grad:
                        self.layer[name] = len(outputs)
                outputs.append(len(weight))
        self.transforms = nn.ParameterList([torch.eye(n) for n in outputs])
        self.log_odds = nn.ParameterList([torch.zeros(n) for n in outputs] if mask else [])
        self.noise: list[Tensor] = []

    def drawn(self, tasks: int) -> Self:
        """In training, with masks drawn for each task, which stay the same in all its steps."""
        if not self.training:
            return self
        drawn = copy.copy(self)
        drawn.noise = [logistic_noise(tasks, zeta) for zeta in self.log_odds]
        return drawn

    def masks(self, layer: int) -> Tensor:
        """M, (T, outputs): drawn, with a straight-through gradient; in evaluation its mean."""
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
        """T M T^T g of each layer; the gradients of other parameters, as batch norm's, stay."""
        return {
            name: self._step(name, g) if name in self.layer else g for name, g in gradients.items()
        }

    def _step(self, name: str, g: Tensor) -> Tensor:
        """T M T^T g."""
        g = self._mixed("ji,tj...->ti...", name, g)
        if self.log_odds:
            m = self.masks(self.layer[name])
            g = m.view(*m.shape, *[1] * (g.dim() - 2)) * g
        return self._mixed("ij,tj...->ti...", name, g)

    def _mixed(self, axes: str, name: str, p: Tensor) -> Tensor:
        """T p, or T^T p, as the einsum `axes` say."""
        return torch.einsum(axes, self.transforms[self.layer[name]], p)


class Warp(TNet):
    """NPBML's omega: 1x1 convolutions between convolutions and their norms, which no step moves.

    Here theta is the product of omega and a convolution's weights, and a step is omega omega^T g.
    The norm undoes omega's diagonal, as it does T-Net's, and the head has no omega. So omega learns
    no rates.
    """

    def __init__(self, net: nn.Module, names: Collection[str] | None = None) -> None:
        """Start with omega = 1, for all convolutions of `net` or those that are named."""
        super().__init__(net, names=convolutions(net, names))


class WarpLayer(nn.Module):
    """A 3x3 convolution with a batch norm, and FiLM if asked for; no ReLU."""

    def __init__(self, channels: int, batch_norm: str, film: bool) -> None:
        """Start as the batch norm alone (with FiLM, nearly).

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
        """(n, T*C, H, W) -> (n, T*C, H, W)."""
        return block(maps, self.conv, self.norm, relu=False)


class PostBlock(Preconditioner):
    """Puts a `WarpLayer` behind blocks; no inner step moves it (NPBML's code, after WarpGrad)."""

    def __init__(self, net: nn.Module, names: Collection[str] | None = None) -> None:
        """Put the layers into `net`.

        Each has the batch-norm mode of its block, and FiLM if the block has it.

        Args:
            net: a backbone of blocks, or a network with one in it; the new parameters are its.
            names: of parameters; only the blocks that have one of them get a layer. None for all.

        Raises:
            UsageError: there is no backbone of blocks in `net`.
        """
        super().__init__()
        backbones = [(n, part) for n, part in net.named_modules() if hasattr(part, "after")]
        if not backbones:
            raise UsageError("post_block: needs a backbone of blocks, such as conv4 or resnet12")
        prefix, backbone = backbones[0]
        self.under = f"{prefix}.after.".lstrip(".")  # how the names of their parameters begin
        weights = {id(p) for p in learned_parameters(net, names).values()}
        for number, channels in enumerate(backbone.widths):
            layers = backbone.layers(number)
            if any(id(conv.weight) in weights for conv, _ in layers):
                _, norm = layers[0]
                layer = WarpLayer(channels, norm.mode, film=norm.film is not None)
                backbone.after[str(number)] = layer

    def moves(self, name: str) -> bool:
        """Whether it is not a parameter of these layers."""
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
    """Build the preconditioner `kind` for the parameters `names` of `net`; None for all.

    Raises:
        UsageError: there is no such preconditioner.
    """
    if kind not in PRECONDITIONERS:
        raise UsageError(f"preconditioner: no {kind!r}: choose from {', '.join(PRECONDITIONERS)}")
    return PRECONDITIONERS[kind](net, names)


def logistic_noise(tasks: int, like: Tensor) -> Tensor:
    """Logistic noise, the difference of two Gumbel variables: (T, *shape of `like`)."""
    u = torch.rand(tasks, *like.shape, dtype=like.dtype, device=like.device)
    return u.clamp(1e-6, 1 - 1e-6).logit()

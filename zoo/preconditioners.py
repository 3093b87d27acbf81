"""What the inner learning rate multiplies: theta' = theta - lr P(g), with a P that is learned."""

import copy
from typing import Self

import torch
from torch import Tensor, nn

Params = dict[str, Tensor]  # name -> (T, *shape)


class Preconditioner(nn.Module):
    """P, and where the inner loop starts; this one leaves both as they are."""

    def drawn(self, tasks: int) -> Self:
        """This one, with what it draws anew for each of T tasks; its parameters stay shared."""
        return self

    def start(self, theta: Params) -> Params:
        """What the inner loop starts from, given the network's own parameters."""
        return theta

    def forward(self, step: int, gradients: Params) -> Params:
        """P(g) in step 0, 1, ...: under the same names."""
        return gradients


class Diagonal(Preconditioner):
    """A rate for each element of each parameter (Meta-SGD)."""

    def __init__(self, net: nn.Module) -> None:
        """Rates of 1 for the parameters of `net`."""
        super().__init__()
        self.rates = nn.ParameterList([torch.ones_like(p) for p in net.parameters()])

    def forward(self, step: int, gradients: Params) -> Params:
        """Rate times gradient, element by element."""
        return {
            name: rate * g for rate, (name, g) in zip(self.rates, gradients.items(), strict=True)
        }


class LayerRates(Preconditioner):
    """A rate for each parameter tensor and step (MAML++); steps behind the last take its rates."""

    def __init__(self, net: nn.Module, steps: int) -> None:
        """Rates of 1 for the parameters of `net` in so many steps."""
        super().__init__()
        self.rates = nn.Parameter(torch.ones(max(1, steps), len(list(net.parameters()))))

    def forward(self, step: int, gradients: Params) -> Params:
        """The step's rates times gradients."""
        rates = self.rates[min(step, len(self.rates) - 1)]
        return {name: rate * g for rate, (name, g) in zip(rates, gradients.items(), strict=True)}


class TNet(Preconditioner):
    """Every layer maps by T W, and steps move W alone; with masks M, some rows of W (MT-net).

    The parameters here are the products T W, on which a step on W is T M T^T g. Layers are what
    has a weight of two axes or more: T is on its outputs, and the bias, if any, is under T too.
    """

    def __init__(self, net: nn.Module, mask: bool = False) -> None:
        """T = 1 for the layers of `net`; with `mask`, log-odds of 0 that an output moves."""
        super().__init__()
        self.layer: dict[str, int] = {}  # of each parameter that has one, by name
        outputs: list[int] = []
        for prefix, module in net.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, nn.Parameter) and weight.dim() > 1:
                own = module.named_parameters(prefix, recurse=False)
                self.layer |= {name: len(outputs) for name, _ in own}
                outputs.append(len(weight))
        self.transforms = nn.ParameterList([torch.eye(n) for n in outputs])
        self.log_odds = nn.ParameterList([torch.zeros(n) for n in outputs] if mask else [])
        self.noise: list[Tensor] = []

    def drawn(self, tasks: int) -> Self:
        """In training: with masks drawn for each task, the same in all its steps."""
        if not self.training:
            return self
        drawn = copy.copy(self)
        drawn.noise = [logistic(tasks, zeta) for zeta in self.log_odds]
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


def logistic(tasks: int, like: Tensor) -> Tensor:
    """Logistic noise, the difference of two Gumbels: (T, *shape of `like`)."""
    u = torch.rand(tasks, *like.shape, dtype=like.dtype, device=like.device)
    return u.clamp(1e-6, 1 - 1e-6).logit()

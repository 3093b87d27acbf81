"""What an inner step asks of a preconditioner P, and how several are put together.

theta' = theta - lr P(g), of the parameters that move, from where P says that they start.
"""

import copy
from collections.abc import Collection
from typing import Self

from torch import Tensor, nn

from zoo.errors import UsageError

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
    """The parameters of a network, or those of them that are named, in its order."""
    return {n: p for n, p in net.named_parameters() if names is None or n in names}

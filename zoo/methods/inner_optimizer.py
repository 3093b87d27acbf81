"""The settings of one step of the inner loop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from zoo.errors import UsageError
from zoo.methods.preconditioners import Params, Preconditioner

MEMORY = ("full", "low")


class Step(NamedTuple):
    """One step of the inner loop, for those who watch it."""

    number: int  # from 0
    before: Params  # the parameters that move
    after: Params
    predict: Callable[[Params], Tensor]  # logits (T, n, N) of such parameters, on the support
    y: Tensor  # labels (T, rows): of the first rows of the logits, those of the support


@dataclass(frozen=True)
class InnerOptimizer:
    """The step theta' = theta - lr P(g), where g is the gradient of L + R at theta.

    With momentum mu and weight decay w the step is Nesterov's, as in torch.optim.SGD:
    v' = mu v + P(g) + w theta and theta' = theta - lr (P(g) + w theta + mu v').

    It holds no state. The learned parts of a step, P and R, are modules of the learner, which
    passes them in when it adapts: `dataclasses.replace(optimizer, precondition=...)`.

    Args:
        lr: inner learning rate.
        precondition: P, which also says where the steps start; by default P(g) = g, from theta.
        momentum: mu; 0 for none.
        weight_decay: w; it is added after P.
        penalty: R, of the parameters that move: (T,). If it is an nn.Module, it is learned too.
        reference: a loss of logits and labels, as L is. A step then takes its gradient, and of what
            L + R adds to that gradient only the part at right angles to it, in each parameter and
            task by itself. So L + R cannot make a step along this gradient longer or shorter.
        watch: called with each step.
        first_order: whether g is a constant to the outer loop.
        memory: ``full`` keeps every step's graph for the outer gradient. ``low`` keeps only every
            step's parameters: the same gradient in a third to two thirds more time, but without
            momentum.

    Raises:
        UsageError: `memory` is neither, or it is ``low`` with momentum.
    """

    lr: float
    precondition: Preconditioner = field(default_factory=Preconditioner)
    momentum: float = 0.0
    weight_decay: float = 0.0
    penalty: Callable[[Params], Tensor] | None = None
    reference: Callable[[Tensor, Tensor], Tensor] | None = None
    watch: Callable[[Step], None] | None = None
    first_order: bool = False
    memory: str = "full"

    def __post_init__(self) -> None:
        if self.memory not in MEMORY:
            raise UsageError(f"memory {self.memory}: choose from {', '.join(MEMORY)}")
        if self.momentum and self.memory == "low":
            raise UsageError("memory low: has no momentum; use memory full")

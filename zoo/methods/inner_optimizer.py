"""What one step of the inner loop is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from zoo.errors import UsageError
from zoo.methods.preconditioners import Params, Preconditioner

MEMORY = ("full", "low")


@dataclass(frozen=True)
class InnerOptimizer:
    """The step theta' = theta - lr P(g), where g is the gradient of L + R at theta.

    With momentum mu and weight decay w it is Nesterov's, v' = mu v + P(g) + w theta and
    theta' = theta - lr (P(g) + w theta + mu v'), as torch.optim.SGD has it.

    It holds no state. What is learned of a step, P and R, is among the learner's own modules, and
    is handed on when it adapts: `dataclasses.replace(optimizer, precondition=...)`.

    Args:
        lr: inner learning rate.
        precondition: P, and where the steps start; the gradient itself and theta by default.
        momentum: mu; 0 for none.
        weight_decay: w; P does not see it.
        penalty: R, of the parameters that move: (T,). An nn.Module gets its gradient.
        first_order: whether g is a constant to the outer loop.
        memory: ``full`` keeps every step's graph for the outer gradient, ``low`` only every step's
            parameters: a third to two thirds more time, the same gradient. It has no momentum.

    Raises:
        UsageError: `memory` is neither, or has no momentum.
    """

    lr: float
    precondition: Preconditioner = field(default_factory=Preconditioner)
    momentum: float = 0.0
    weight_decay: float = 0.0
    penalty: Callable[[Params], Tensor] | None = None
    first_order: bool = False
    memory: str = "full"

    def __post_init__(self) -> None:
        if self.memory not in MEMORY:
            raise UsageError(f"memory {self.memory}: choose from {', '.join(MEMORY)}")
        if self.momentum and self.memory == "low":
            raise UsageError("memory low: has no momentum; use memory full")

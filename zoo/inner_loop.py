"""The inner loop: gradient steps on every task's own copy of the parameters, differentiable.

Per-task parameters carry a leading T. Tasks do not mix, so the gradient of the summed losses
holds each task's own, and one `torch.autograd.grad` serves all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call

from zoo.backbones import normalising
from zoo.episode import Examples
from zoo.errors import UsageError
from zoo.layers import Fixed

MEMORY = ("full", "low")

Params = dict[str, Tensor]  # name -> (T, *shape)
Losses = Callable[[Tensor, Tensor], Tensor]  # logits (T, n, N), labels (T, n) -> (T,)


def call(net: nn.Module, theta: Params, x: Tensor) -> Tensor:
    """f_theta(x), each task with its own parameters: (T, n, *image) -> (T, n, N).

    A network that says ``folds`` takes all tasks at once; any other is called task by task.
    """
    if len(x) > 1 and getattr(net, "folds", False):
        return functional_call(net, theta, (x,))
    tasks = [{name: p[t] for name, p in theta.items()} for t in range(len(x))]
    return torch.stack([functional_call(net, p, (xt,)) for p, xt in zip(tasks, x, strict=True)])


def adapt(
    net: nn.Module,
    support: Examples,
    losses: Losses,
    *,
    lr: float,
    steps: int,
    first_order: bool = False,
    memory: str = "full",
) -> Params:
    """theta' = theta - lr * grad L(theta), `steps` times, from the network's own parameters.

    Works inside no_grad and inference_mode too, as evaluation needs; running statistics of batch
    norm do not move.

    Args:
        net: the network f.
        support: x (T, n, *image), y (T, n).
        losses: L, one loss a task: logits (T, n, N), y (T, n) -> (T,). One that is learned is an
            nn.Module, and its parameters get their gradient.
        lr: inner learning rate.
        steps: number of gradient steps.
        first_order: whether the inner gradients are constants to the outer loop.
        memory: ``full`` keeps every step's graph for the outer gradient, ``low`` only every step's
            parameters: a third to two thirds more time, the same gradient.

    Returns:
        theta', every parameter with a leading T; differentiable in theta where grad is enabled.

    Raises:
        UsageError: `memory` is neither.
    """
    if memory not in MEMORY:
        raise UsageError(f"memory: no mode {memory!r}: choose from {', '.join(MEMORY)}")
    differentiable = torch.is_grad_enabled()
    second_order = differentiable and not first_order
    names = [name for name, _ in net.named_parameters()]
    with torch.inference_mode(False), torch.enable_grad():
        # Tensors made in inference mode cannot be differentiated; clones made here can.
        x, y = (t.clone() if t.is_inference() else t for t in support)
        fixed = Fixed(x)

        def gradient(theta: Sequence[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
            with torch.enable_grad(), normalising(net, track=False, fixed=fixed):
                logits = call(net, dict(zip(names, theta, strict=True)), x)
                return torch.autograd.grad(
                    losses(logits, y).sum(), theta, create_graph=create_graph
                )

        theta = [p.expand(len(x), *p.shape) for p in net.parameters()]
        if second_order and memory == "low":
            learned = list(losses.parameters()) if isinstance(losses, nn.Module) else []
            learned = [p for p in learned if p.requires_grad]
            theta = _Unrolled.apply(gradient, lr, steps, len(theta), *theta, *learned)
            return dict(zip(names, theta, strict=True))
        if not differentiable:
            theta = [p.detach().requires_grad_() for p in theta]
        for _ in range(steps):
            grads = gradient(theta, second_order)
            theta = [p - lr * g for p, g in zip(theta, grads, strict=True)]
            if not differentiable:
                theta = [p.detach().requires_grad_() for p in theta]
    return dict(zip(names, theta, strict=True))


class _Unrolled(Function):
    """The inner loop by its adjoint: backward makes each step's graph anew, one at a time.

    With H_k the Hessian of step k's loss, v goes back through it as v - lr H_k v, and H_k v is the
    gradient of <grad L(theta_k), v>.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gradient: Callable[[Sequence[Tensor], bool], tuple[Tensor, ...]],
        lr: float,
        steps: int,
        count: int,
        *inputs: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.gradient, ctx.lr, ctx.count, ctx.learned = gradient, lr, count, inputs[count:]
        kept: list[Tensor] = []
        theta = [p.detach() for p in inputs[:count]]
        for _ in range(steps):
            kept += theta
            grads = gradient([p.requires_grad_() for p in theta], False)
            theta = [p.detach() - lr * g for p, g in zip(theta, grads, strict=True)]
        ctx.save_for_backward(*(p.detach() for p in kept))
        return tuple(theta)

    @staticmethod
    def backward(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("adapt: a second outer derivative needs memory full")
        kept, back = list(ctx.saved_tensors), [*v, *map(torch.zeros_like, ctx.learned)]
        while kept:
            theta = [p.detach().requires_grad_() for p in kept[-ctx.count :]]
            del kept[-ctx.count :]
            products = torch.autograd.grad(
                ctx.gradient(theta, True),
                [*theta, *ctx.learned],
                back[: ctx.count],
                allow_unused=True,
            )
            back = [b if p is None else b - ctx.lr * p for b, p in zip(back, products, strict=True)]
        return None, None, None, None, *back


def gradients(
    losses: Callable[..., Tensor], theta: Tensor, *inputs: Tensor, detach: bool
) -> Tensor:
    """The gradient in theta of the sum of losses(theta, *inputs), of theta's shape.

    A theta with a row for each example has each example's own gradient in its row. Works inside
    no_grad and inference mode too.

    Args:
        losses: of any shape.
        theta: what it is the gradient in.
        inputs: what else the losses are of.
        detach: whether it is a constant to the outer loop.
    """
    create_graph = torch.is_grad_enabled() and not detach
    with torch.inference_mode(False), torch.enable_grad():
        theta, *rest = (t.clone() if t.is_inference() else t for t in (theta, *inputs))
        if not create_graph:
            theta, rest = theta.detach().requires_grad_(), [t.detach() for t in rest]
        total = losses(theta, *rest).sum()
        (g,) = torch.autograd.grad(total, theta, create_graph=create_graph)
    return g

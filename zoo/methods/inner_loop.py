"""The inner loop: gradient steps on every task's own copy of the parameters, differentiable.

Per-task parameters carry a leading T. Tasks do not mix, so the gradient of the summed losses
holds each task's own, and one `torch.autograd.grad` serves all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo.episode import Examples
from zoo.errors import UsageError
from zoo.methods.inner_optimizer import InnerOptimizer
from zoo.methods.preconditioners import Params, chosen
from zoo.networks.backbone import batch_norm_context
from zoo.networks.layers import FixedImages

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
    optimizer: InnerOptimizer,
    *,
    steps: int,
    after_step: Callable[[Params], None] | None = None,
) -> Params:
    """`steps` steps of the optimizer on L, from the network's own parameters theta.

    Works inside no_grad and inference_mode too, as evaluation needs; running statistics of batch
    norm do not move. Frozen parameters stay as they are; one that the loss does not depend on has
    a gradient of zeros.

    Args:
        net: the network f.
        support: x (T, n, *image), y (T, n).
        losses: L, one loss a task: logits (T, n, N), y (T, n) -> (T,). One that is learned is an
            nn.Module, and its parameters get their gradient.
        optimizer: what a step is.
        steps: number of steps.
        after_step: called with theta after each step.

    Returns:
        theta', every parameter with a leading T, also what P says does not move; differentiable in
        theta, in what is learned of L, P and R, and in x, where grad is enabled.

    Raises:
        UsageError: second-order steps of a network that torch.compile compiled.
    """
    lr, momentum, penalty = optimizer.lr, optimizer.momentum, optimizer.penalty
    weight_decay = optimizer.weight_decay
    differentiable = torch.is_grad_enabled()
    second_order = differentiable and not optimizer.first_order
    if second_order and is_compiled(net):
        raise UsageError(
            "the network is compiled, and what torch.compile makes has no right second derivative: "
            "set first_order=true, or train without torch.compile"
        )
    low = second_order and optimizer.memory == "low"
    with torch.inference_mode(False), torch.enable_grad():
        x, y = differentiable_copies(*support)
        fixed = FixedImages(x)
        p = optimizer.precondition.drawn(len(x))
        start = p.start(expanded_parameters(net, len(x)))
        moving = chosen(net, None)
        names = [name for name in start if name in moving and p.moves(name)]
        held = {name: q for name, q in start.items() if name not in names}

        def move(step: int, theta: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
            """P(grad L(theta)): what the rate multiplies."""
            with (
                torch.enable_grad(),
                batch_norm_context(net, track=False, fixed=fixed),
                twice_differentiable() if second_order else nullcontext(),
            ):
                named = dict(zip(names, theta, strict=True))
                loss = losses(call(net, held | named, x), y)
                loss = loss if penalty is None else loss + penalty(named)
                grads = torch.autograd.grad(
                    loss.sum(), theta, create_graph=create_graph, materialize_grads=True
                )
                moves = p(step, dict(zip(names, grads, strict=True)))
                if weight_decay:
                    moves = {name: m + weight_decay * named[name] for name, m in moves.items()}
                return [moves[name] for name in names]

        parts = [part for part in (losses, p, penalty) if isinstance(part, nn.Module)]
        learned = [x, *(q for part in parts for q in part.parameters())]
        learned += [q for name, q in net.named_parameters() if name in held]
        learned = [q for q in learned if q.requires_grad]
        theta = [start[name] for name in names]
        velocity = [torch.zeros_like(q) for q in theta] if momentum else []
        for step in range(steps):
            if not differentiable:
                theta = [q.detach().requires_grad_() for q in theta]
            if low:
                theta = _Step.apply(partial(move, step), lr, len(theta), *theta, *learned)
            else:
                moves = move(step, theta, second_order)
                if momentum:
                    velocity = [momentum * v + m for v, m in zip(velocity, moves, strict=True)]
                    moves = [m + momentum * v for v, m in zip(velocity, moves, strict=True)]
                theta = [q - lr * m for q, m in zip(theta, moves, strict=True)]
            if after_step:
                after_step(dict(zip(names, theta, strict=True)))
        if not differentiable:
            theta, held = [q.detach() for q in theta], {n: q.detach() for n, q in held.items()}
    return held | dict(zip(names, theta, strict=True))


def is_compiled(net: nn.Module) -> bool:
    """Whether torch.compile was called on a network or a part of it."""
    return any(
        getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")
        for module in net.modules()
    )


def differentiable_copies(*tensors: Tensor) -> list[Tensor]:
    """Those made in inference mode cannot be differentiated; clones made outside it can."""
    with torch.inference_mode(False):
        return [t.clone() if t.is_inference() else t for t in tensors]


def expanded_parameters(net: nn.Module, tasks: int) -> Params:
    """A network's own parameters, the same for each of T tasks."""
    return {name: p.expand(tasks, *p.shape) for name, p in net.named_parameters()}


def task_gradients(net: nn.Module, theta: Params, batch: Examples, losses: Losses) -> Params:
    """Each task's gradient of its own loss at theta, for inner loops that differentiate no step.

    Works inside no_grad and inference_mode too; running statistics of batch norm do not move. That
    of a frozen parameter, and of one that the loss does not depend on, is zeros.
    """
    with torch.inference_mode(False), torch.enable_grad(), batch_norm_context(net, track=False):
        x, y = differentiable_copies(*batch)
        theta = {name: p.detach().clone().requires_grad_() for name, p in theta.items()}
        moving = [theta[name] for name in chosen(net, None)]
        loss = losses(call(net, theta, x), y).sum()
        found = torch.autograd.grad(loss, moving, materialize_grads=True)
    gradients = dict(zip(chosen(net, None), found, strict=True))
    return {n: gradients[n] if n in gradients else torch.zeros_like(p) for n, p in theta.items()}


def twice_differentiable() -> AbstractContextManager[None]:
    """Attention by its formula: PyTorch's fused kernels have no second derivative."""
    return sdpa_kernel(SDPBackend.MATH)


def random_state(device: torch.device) -> list[Tensor]:
    """Of the generators that a forward pass on this device draws from, as dropout does."""
    state = [torch.get_rng_state()]
    return [*state, torch.cuda.get_rng_state(device)] if device.type == "cuda" else state


@contextmanager
def drawing_again(state: Sequence[Tensor], device: torch.device) -> Iterator[None]:
    """Inside, the random numbers that came after that state; outside they go on as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        for of_device in state[1:]:
            torch.cuda.set_rng_state(of_device, device)
        yield


class _Step(Function):
    """One inner step by its adjoint: backward makes the step's graph anew, and drops it.

    It draws the same random numbers again.

    v goes back through theta' = theta - lr m(theta) as v - lr J^T v, and J^T v is the gradient of
    <m(theta), v>; likewise for what else is learned.
    """

    @staticmethod
    def forward(
        ctx: Any,
        move: Callable[[Sequence[Tensor], bool], list[Tensor]],
        lr: float,
        count: int,
        *inputs: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.move, ctx.lr, ctx.learned = move, lr, inputs[count:]
        ctx.save_for_backward(*inputs[:count])
        ctx.random = random_state(inputs[0].device)
        moves = move([p.detach().requires_grad_() for p in inputs[:count]], False)
        return tuple(p - lr * m for p, m in zip(inputs[:count], moves, strict=True))

    @staticmethod
    def backward(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("adapt: a second outer derivative needs memory full")
        theta = [p.detach().requires_grad_() for p in ctx.saved_tensors]
        inputs = [*theta, *ctx.learned]
        with drawing_again(ctx.random, theta[0].device):
            moves = ctx.move(theta, True)
        products = torch.autograd.grad(moves, inputs, v, allow_unused=True)
        back = [None if p is None else -ctx.lr * p for p in products]
        direct = [b if p is None else b + p for b, p in zip(v, back[: len(v)], strict=True)]
        return None, None, None, *direct, *back[len(v) :]


def gradient_of(
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
        theta, *rest = differentiable_copies(theta, *inputs)
        if not create_graph:
            theta, rest = theta.detach().requires_grad_(), [t.detach() for t in rest]
        total = losses(theta, *rest).sum()
        (g,) = torch.autograd.grad(total, theta, create_graph=create_graph)
    return g

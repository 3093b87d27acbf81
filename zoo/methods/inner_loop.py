"""The inner loop: differentiable gradient steps on each task's own copy of the parameters.

Per-task parameters have a leading T. A task's loss depends on its own copy alone, so one call of
`torch.autograd.grad` on the sum of the losses gives every task its own gradient.

The letters are those of `InnerOptimizer`: L is the loss, R the penalty, P the preconditioner and w
the weight decay.
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

from zoo.backbone_contract import check_unchanged
from zoo.episode import Examples
from zoo.errors import UsageError
from zoo.methods.inner_optimizer import InnerOptimizer, Step
from zoo.methods.preconditioners import Params, learned_parameters
from zoo.networks.backbone import batch_norm_context
from zoo.networks.layers import FixedImages

Losses = Callable[[Tensor, Tensor], Tensor]  # logits (T, n, N), labels (T, n) -> (T,)


def call(net: nn.Module, theta: Params, x: Tensor) -> Tensor:
    """f_theta(x), each task with its own parameters: (T, n, *image) -> (T, n, N).

    A network with ``folds`` takes all tasks at once; any other is called task by task.

    Raises:
        UsageError: the network changed x in place.
    """
    version = 0 if x.is_inference() else x._version
    if len(x) > 1 and getattr(net, "folds", False):
        y = functional_call(net, theta, (x,))
    else:
        tasks = [{name: p[t] for name, p in theta.items()} for t in range(len(x))]
        y = torch.stack([functional_call(net, p, (xt,)) for p, xt in zip(tasks, x, strict=True)])
    if not x.is_inference():
        check_unchanged(net, x, version)
    return y


def adapt(
    net: nn.Module,
    support: Examples,
    losses: Losses,
    optimizer: InnerOptimizer,
    *,
    steps: int,
) -> Params:
    """Take `steps` steps of the optimizer on L, from the network's own parameters theta.

    Works inside no_grad and inference_mode too, as evaluation needs; running statistics of batch
    norm do not move. Frozen parameters stay as they are; one that the loss does not depend on has
    a gradient of zeros.

    Args:
        net: the network f.
        support: x (T, n, *image), y (T, n).
        losses: L, one loss per task: logits (T, n, N), y (T, n) -> (T,). A learned loss is an
            nn.Module, and its parameters get a gradient.
        optimizer: says what a step is.
        steps: number of steps.

    Returns:
        theta', every parameter with a leading T, including those that P does not move. If grad is
        enabled, it is differentiable in theta, in x, and in the learned parts of L, P and R.

    Raises:
        UsageError: second-order steps of a network that torch.compile compiled.
    """
    lr, momentum, weight_decay = optimizer.lr, optimizer.momentum, optimizer.weight_decay
    penalty = optimizer.penalty
    differentiable = torch.is_grad_enabled()
    second_order = differentiable and not optimizer.first_order
    if second_order and is_compiled(net):
        raise UsageError(
            "the network is compiled, and what torch.compile makes has no right second derivative: "
            "set first_order=true, or train without torch.compile"
        )
    low_memory = second_order and optimizer.memory == "low"
    with torch.inference_mode(False), torch.enable_grad():
        x, y = differentiable_copies(*support)
        fixed = FixedImages(x)
        precondition = optimizer.precondition.drawn(len(x))
        start = precondition.start(expanded_parameters(net, len(x)))
        learned = learned_parameters(net, None)
        names = [name for name in start if name in learned and precondition.moves(name)]
        unmoved = {name: p for name, p in start.items() if name not in names}

        def predict(named: Params) -> Tensor:
            with batch_norm_context(net, track=False, fixed=fixed):
                return call(net, unmoved | named, x)

        def move(step: int, theta: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
            """P(grad (L + R)) + w theta, which the rate multiplies; for the names that move."""
            with torch.enable_grad(), twice_differentiable() if second_order else nullcontext():
                named = dict(zip(names, theta, strict=True))
                logits = predict(named)
                grads = step_gradients(optimizer, losses, logits, y, named, create_graph)
                moves = precondition(step, dict(zip(names, grads, strict=True)))
                if weight_decay:
                    moves = {name: m + weight_decay * named[name] for name, m in moves.items()}
                return [moves[name] for name in names]

        # What the steps depend on, besides theta.
        parts = [part for part in (losses, precondition, penalty) if isinstance(part, nn.Module)]
        inputs = [x, *(p for part in parts for p in part.parameters())]
        inputs += [p for name, p in net.named_parameters() if name in unmoved]
        inputs = [p for p in inputs if p.requires_grad]
        theta = [start[name] for name in names]
        velocity = [torch.zeros_like(p) for p in theta] if momentum else []
        for step in range(steps):
            if not differentiable:
                theta = [p.detach().requires_grad_() for p in theta]
            before = theta
            if low_memory:
                theta = _Step.apply(partial(move, step), lr, len(theta), *theta, *inputs)
            else:
                moves = move(step, theta, second_order)
                moves, velocity = with_momentum(moves, velocity, momentum)
                theta = [p - lr * m for p, m in zip(theta, moves, strict=True)]
            if optimizer.watch is not None:
                named, moved = (dict(zip(names, p, strict=True)) for p in (before, theta))
                optimizer.watch(Step(step, named, moved, predict, y))
        if not differentiable:
            theta = [p.detach() for p in theta]
            unmoved = {name: p.detach() for name, p in unmoved.items()}
    return unmoved | dict(zip(names, theta, strict=True))


def with_momentum(
    moves: list[Tensor], velocity: list[Tensor], momentum: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Nesterov's moves from plain ones, P(g) + w theta, and the new velocity."""
    if not momentum:
        return moves, velocity
    velocity = [momentum * v + m for v, m in zip(velocity, moves, strict=True)]
    return [m + momentum * v for v, m in zip(velocity, moves, strict=True)], velocity


def step_gradients(
    optimizer: InnerOptimizer,
    losses: Losses,
    logits: Tensor,
    y: Tensor,
    theta: Params,
    create_graph: bool,
) -> list[Tensor]:
    """The gradient of L + R in each of the parameters theta that move, before P.

    With a reference the addition to its gradient is at right angles to it (see `InnerOptimizer`).

    Args:
        optimizer: says what a step is.
        losses: L.
        logits: (T, n, N), of the parameters theta.
        y: labels (T, n).
        theta: the parameters that move.
        create_graph: whether the gradient can be differentiated.
    """

    def gradients(loss: Tensor, keep: bool) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            loss.sum(),
            [*theta.values()],
            create_graph=create_graph,
            retain_graph=keep or create_graph,
            materialize_grads=True,
        )

    loss = losses(logits, y)
    if optimizer.penalty is not None:
        loss = loss + optimizer.penalty(theta)
    if optimizer.reference is None:
        return [*gradients(loss, keep=False)]
    of_loss = gradients(loss, keep=True)
    of_reference = gradients(optimizer.reference(logits, y), keep=False)
    return [*map(with_the_scale_of, of_loss, of_reference)]


def with_the_scale_of(gradient: Tensor, reference: Tensor) -> Tensor:
    """The reference plus the part of the gradient that is at right angles to it, (T, *shape).

    Along the reference the step stays what the reference alone would make. Where the reference is
    zero, the result is the gradient.
    """
    g, along = gradient.flatten(1), reference.flatten(1)
    square = along.square().sum(1, keepdim=True)
    share = ((g - along) * along).sum(1, keepdim=True) / torch.where(square > 0, square, 1)
    return (g - share * along).reshape(gradient.shape)


def is_compiled(net: nn.Module) -> bool:
    """Whether torch.compile was called on a network or a part of it."""
    return any(
        getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")
        for module in net.modules()
    )


def differentiable_copies(*tensors: Tensor) -> list[Tensor]:
    """The tensors; those made in inference mode, which autograd refuses, as clones."""
    with torch.inference_mode(False):
        return [t.clone() if t.is_inference() else t for t in tensors]


def expanded_parameters(net: nn.Module, tasks: int) -> Params:
    """A network's own parameters with a leading T, the same for each task."""
    return {name: p.expand(tasks, *p.shape) for name, p in net.named_parameters()}


def task_gradients(net: nn.Module, theta: Params, batch: Examples, losses: Losses) -> Params:
    """Each task's gradient of its own loss at theta, as a constant to the outer loop.

    Works inside no_grad and inference_mode too; running statistics of batch norm do not move. The
    gradient is zero for frozen parameters and for those that the loss does not depend on.
    """
    names = list(learned_parameters(net, None))
    with torch.inference_mode(False), torch.enable_grad(), batch_norm_context(net, track=False):
        x, y = differentiable_copies(*batch)
        theta = {name: p.detach().clone().requires_grad_() for name, p in theta.items()}
        loss = losses(call(net, theta, x), y).sum()
        values = torch.autograd.grad(loss, [theta[n] for n in names], materialize_grads=True)
    gradients = dict(zip(names, values, strict=True))
    return {n: gradients[n] if n in gradients else torch.zeros_like(p) for n, p in theta.items()}


def twice_differentiable() -> AbstractContextManager[None]:
    """Inside, attention is computed step by step: fused kernels have no second derivative."""
    return sdpa_kernel(SDPBackend.MATH)


def random_state(device: torch.device) -> list[Tensor]:
    """The state of the random generators that a forward pass on this device draws from."""
    state = [torch.get_rng_state()]
    if device.type == "cuda":
        state.append(torch.cuda.get_rng_state(device))
    return state


@contextmanager
def drawing_again(state: Sequence[Tensor], device: torch.device) -> Iterator[None]:
    """Inside, draw from that `random_state`; outside, random numbers go on as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        for device_state in state[1:]:
            torch.cuda.set_rng_state(device_state, device)
        yield


class _Step(Function):
    """One inner step whose graph is not kept: backward builds it again, and then drops it.

    Backward draws the same random numbers as forward did.

    The gradient v goes back through theta' = theta - lr m(theta) as v - lr J^T v, and J^T v is the
    gradient of <m(theta), v>; likewise for the other learned inputs.
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

    If theta has a row for each example, each row gets its own example's gradient. Works inside
    no_grad and inference mode too.

    Args:
        losses: returns losses of any shape.
        theta: what the gradient is in.
        inputs: what else `losses` takes.
        detach: whether the gradient is a constant to the outer loop.
    """
    create_graph = torch.is_grad_enabled() and not detach
    with torch.inference_mode(False), torch.enable_grad():
        theta, *rest = differentiable_copies(theta, *inputs)
        if not create_graph:
            theta, rest = theta.detach().requires_grad_(), [t.detach() for t in rest]
        total = losses(theta, *rest).sum()
        (g,) = torch.autograd.grad(total, theta, create_graph=create_graph)
    return g

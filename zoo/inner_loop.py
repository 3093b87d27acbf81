"""The inner loop: gradient steps on every task's own copy of the parameters, differentiable.

Per-task parameters carry a leading T. Tasks do not mix, so the gradient of the summed losses
holds each task's own, and one `torch.autograd.grad` serves all of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from zoo.backbones import normalising
from zoo.episode import Examples

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
) -> Params:
    """theta' = theta - lr * grad L(theta), `steps` times, from the network's own parameters.

    Works inside no_grad and inference_mode too, as evaluation needs; running statistics of batch
    norm do not move.

    Args:
        net: the network f.
        support: x (T, n, *image), y (T, n).
        losses: L, one loss a task: logits (T, n, N), y (T, n) -> (T,).
        lr: inner learning rate.
        steps: number of gradient steps.
        first_order: whether the inner gradients are constants to the outer loop.

    Returns:
        theta', every parameter with a leading T; differentiable in theta where grad is enabled.
    """
    differentiable = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad(), normalising(net, track=False):
        # Tensors made in inference mode cannot be differentiated; clones made here can.
        x, y = (t.clone() if t.is_inference() else t for t in support)
        theta = {name: p.expand(len(x), *p.shape) for name, p in net.named_parameters()}
        if not differentiable:
            theta = {name: p.detach().requires_grad_() for name, p in theta.items()}
        for _ in range(steps):
            loss = losses(call(net, theta, x), y).sum()
            grads = torch.autograd.grad(
                loss, list(theta.values()), create_graph=differentiable and not first_order
            )
            theta = {name: p - lr * g for (name, p), g in zip(theta.items(), grads, strict=True)}
            if not differentiable:
                theta = {name: p.detach().requires_grad_() for name, p in theta.items()}
    return theta

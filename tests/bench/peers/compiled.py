"""torch.compile of the plain loop: one compiled function from weights and a task to the gradient.

A graph that was compiled cannot be differentiated twice, so the whole meta-gradient is inside the
compiled function, by `torch.func.grad`. Compilation is left out of the time: it falls into the
warm-up, whose seconds stand below the table. First order only: on busy cores one inner step of the
second order took over nine minutes to compile, where the first order took a third of one. Nothing
is installed for it; it needs a C++ compiler.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad
from torch.nn import functional as F

from tests.bench.peers import Problem
from tests.bench.peers.common import network, tasks_of

TITLE = "plain loop, torch.compile"
INSTALL = ()
ORDERS = ("first",)
Weights = dict[str, Tensor]


def prepare(problem: Problem, order: str) -> Callable[[], Weights]:
    """One task's graph at a time."""
    net, tasks = network(problem), tasks_of(problem)
    start = {name: p.detach() for name, p in net.named_parameters()}
    # A compiled function is guarded by all that it closes over: numbers, not the problem's arrays.
    steps, lr, count = problem.steps, problem.lr, problem.tasks

    def loss_of(theta: Weights, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, theta, (x,)), y)

    def meta_loss(theta: Weights, x: Tensor, y: Tensor, query_x: Tensor, query_y: Tensor) -> Tensor:
        for _ in range(steps):
            grads = grad(loss_of)(theta, x, y)
            theta = {name: p - lr * grads[name].detach() for name, p in theta.items()}
        return loss_of(theta, query_x, query_y) / count

    gradient_of = torch.compile(grad(meta_loss), fullgraph=True, dynamic=False)

    def step() -> Weights:
        gradients = [gradient_of(start, *task) for task in tasks]
        return {name: sum(g[name] for g in gradients) for name in start}

    return step

"""higher 0.2.1: `innerloop_ctx` with `copy_initial_weights=False`, as its MAML example does.

It installs and imports as it is. First order is what its issue 63 describes: inner steps that
are not tracked, and the gradient of the query loss at the adapted weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.bench.peers import Problem
from tests.bench.peers.common import network, take_gradient, tasks_of

TITLE = "higher"
INSTALL = (("torch", "numpy", "higher==0.2.1"),)
ORDERS = ("second", "first")


def prepare(problem: Problem, order: str) -> Callable[[], dict[str, Tensor]]:
    """One task's graph at a time."""
    import higher

    net, tasks = network(problem), tasks_of(problem)
    inner = torch.optim.SGD(net.parameters(), lr=problem.lr)
    second = order == "second"

    def step() -> dict[str, Tensor]:
        for x, y, query_x, query_y in tasks:
            with higher.innerloop_ctx(
                net, inner, copy_initial_weights=False, track_higher_grads=second
            ) as (fast, optimizer):
                for _ in range(problem.steps):
                    optimizer.step(F.cross_entropy(fast(x), y))
                loss = F.cross_entropy(fast(query_x), query_y) / len(tasks)
                if second:
                    loss.backward()
                    continue
                grads = torch.autograd.grad(loss, list(fast.parameters()))
                for p, g in zip(net.parameters(), grads, strict=True):
                    p.grad = g if p.grad is None else p.grad + g
        return take_gradient(net)

    return step

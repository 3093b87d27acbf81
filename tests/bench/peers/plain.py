"""The plain loop: what one writes with PyTorch alone, `functional_call` and `autograd.grad`.

It is the measure of every other contestant's gradient. Nothing is installed for it.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from tests.bench.peers import Problem
from tests.bench.peers.common import network, take_gradient, tasks_of

TITLE = "plain loop"
INSTALL = ()
ORDERS = ("second", "first", "test")


def prepare(problem: Problem, order: str) -> Callable[[], dict[str, Tensor]]:
    """One task's graph at a time."""
    net, tasks = network(problem), tasks_of(problem)
    start = dict(net.named_parameters())

    def adapted(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        theta = start
        for _ in range(problem.steps):
            loss = F.cross_entropy(functional_call(net, theta, (x,)), y)
            grads = torch.autograd.grad(loss, list(theta.values()), create_graph=order == "second")
            theta = {
                name: p - problem.lr * g for (name, p), g in zip(theta.items(), grads, strict=True)
            }
            if order == "test":
                theta = {name: p.detach().requires_grad_() for name, p in theta.items()}
        return theta

    def test() -> dict[str, Tensor]:
        logits = []
        for x, y, query_x, _ in tasks:
            theta = adapted(x, y)
            with torch.no_grad():
                logits.append(functional_call(net, theta, (query_x,)))
        return {"logits": torch.stack(logits)}

    def train() -> dict[str, Tensor]:
        for x, y, query_x, query_y in tasks:
            logits = functional_call(net, adapted(x, y), (query_x,))
            (F.cross_entropy(logits, query_y) / len(tasks)).backward()
        return take_gradient(net)

    return test if order == "test" else train

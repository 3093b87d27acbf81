"""TorchOpt 0.7.3: `MetaSGD` on the network, put back after each task, as its MAML example does.

It installs and imports as it is. It has no first order: `MetaSGD.step` always keeps the graph.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from tests.bench.peers import Problem
from tests.bench.peers.common import network, take_gradient, tasks_of

TITLE = "TorchOpt"
INSTALL = (("torch", "numpy", "torchopt==0.7.3"),)
ORDERS = ("second",)


def prepare(problem: Problem, order: str) -> Callable[[], dict[str, Tensor]]:
    """One task's graph at a time."""
    import torchopt

    net, tasks = network(problem), tasks_of(problem)
    inner = torchopt.MetaSGD(net, lr=problem.lr)
    net_start = torchopt.extract_state_dict(net, by="reference", detach_buffers=True)
    inner_start = torchopt.extract_state_dict(inner, by="reference")

    def step() -> dict[str, Tensor]:
        for x, y, query_x, query_y in tasks:
            for _ in range(problem.steps):
                inner.step(F.cross_entropy(net(x), y))
            (F.cross_entropy(net(query_x), query_y) / len(tasks)).backward()
            torchopt.recover_state_dict(net, net_start)
            torchopt.recover_state_dict(inner, inner_start)
        return take_gradient(net)

    return step

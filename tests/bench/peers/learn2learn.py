"""learn2learn 0.2.0: `MAML(net).clone()`, then `adapt(loss)`, as its examples do.

Installed as the source distribution unpacked, without what it depends on: its Cython extensions,
which are about data sets, do not compile under Python 3.11, and no step needs them. For the same
reason `learn2learn/__init__.py`, which imports them with gym, torchvision and more, is skipped:
only `learn2learn.algorithms.maml` and what that imports are loaded, unchanged.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from tests.bench.peers import Problem
from tests.bench.peers.common import network, take_gradient, tasks_of
from tests.bench.peers.shim import skip_init

TITLE = "learn2learn"
INSTALL = (("torch", "numpy"),)
UNPACK = "learn2learn==0.2.0"
ORDERS = ("second", "first")


def prepare(problem: Problem, order: str) -> Callable[[], dict[str, Tensor]]:
    """One task's graph at a time."""
    skip_init("learn2learn", "learn2learn.algorithms")
    from learn2learn.algorithms.maml import MAML

    net, tasks = network(problem), tasks_of(problem)
    maml = MAML(net, lr=problem.lr, first_order=order == "first")

    def step() -> dict[str, Tensor]:
        for x, y, query_x, query_y in tasks:
            learner = maml.clone()
            for _ in range(problem.steps):
                learner.adapt(F.cross_entropy(learner(x), y))
            (F.cross_entropy(learner(query_x), query_y) / len(tasks)).backward()
        return take_gradient(net)

    return step

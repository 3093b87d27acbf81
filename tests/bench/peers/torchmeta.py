"""Torchmeta 1.8.0: a `MetaSequential` and `gradient_update_parameters`, as its example does.

Installed without what it depends on, which would be torch below 1.10 and its torchvision. For
the same reason the packages' `__init__`, which import data sets and so torchvision, are skipped:
only `torchmeta.modules` and `torchmeta.utils.gradient_based` are loaded, unchanged.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from tests.bench.peers import Problem
from tests.bench.peers.common import layers, load, take_gradient, tasks_of
from tests.bench.peers.shim import skip_init

TITLE = "Torchmeta"
INSTALL = (("torch", "numpy"), ("--no-deps", "torchmeta==1.8.0"))
ORDERS = ("second", "first")


def prepare(problem: Problem, order: str) -> Callable[[], dict[str, Tensor]]:
    """One task's graph at a time."""
    skip_init("torchmeta", "torchmeta.utils")
    from torchmeta.modules import MetaBatchNorm2d, MetaConv2d, MetaLinear, MetaSequential
    from torchmeta.utils.gradient_based import gradient_update_parameters

    net = load(MetaSequential(layers(problem, MetaConv2d, MetaBatchNorm2d, MetaLinear)), problem)
    tasks = tasks_of(problem)

    def step() -> dict[str, Tensor]:
        for x, y, query_x, query_y in tasks:
            params = None
            for _ in range(problem.steps):
                params = gradient_update_parameters(
                    net,
                    F.cross_entropy(net(x, params=params), y),
                    params=params,
                    step_size=problem.lr,
                    first_order=order == "first",
                )
            loss = F.cross_entropy(net(query_x, params=params), query_y)
            (loss / len(tasks)).backward()
        return take_gradient(net)

    return step

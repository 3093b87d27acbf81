"""What the contestants on PyTorch share: the network, the tasks and the gradient as tensors."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from tests.bench.peers import Problem


def layers(
    problem: Problem, conv: Any = nn.Conv2d, norm: Any = nn.BatchNorm2d, linear: Any = nn.Linear
) -> OrderedDict[str, nn.Module]:
    """Conv4's layers by name, with room for the problem's weights; of a library's own classes."""
    found: OrderedDict[str, nn.Module] = OrderedDict()
    for block in range(4):
        outputs, inputs = problem.weights[f"conv{block}.weight"].shape[:2]
        found[f"conv{block}"] = conv(inputs, outputs, 3, padding=1, bias=False)
        found[f"norm{block}"] = norm(outputs, track_running_stats=False)
        found[f"relu{block}"] = nn.ReLU()
        found[f"pool{block}"] = nn.MaxPool2d(2)
    found["flatten"] = nn.Flatten()
    way, features = problem.weights["head.weight"].shape
    found["head"] = linear(features, way)
    return found


def load(net: nn.Module, problem: Problem, names: dict[str, str] | None = None) -> nn.Module:
    """Give a network the problem's weights and number type; `names` are ours to the network's."""
    tensors = {name: torch.from_numpy(array) for name, array in problem.weights.items()}
    net.to(tensors["head.bias"].dtype)
    parameters = dict(net.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters.pop((names or {}).get(name, name)).copy_(tensor)
    if parameters:
        raise KeyError(f"no weights for {sorted(parameters)}")
    return net


def network(problem: Problem) -> nn.Module:
    """Conv4 of PyTorch's own layers."""
    return load(nn.Sequential(layers(problem)), problem)


def tasks_of(problem: Problem) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Support images and labels, query images and labels of each task."""
    arrays = (problem.support_x, problem.support_y, problem.query_x, problem.query_y)
    return list(zip(*(torch.from_numpy(array) for array in arrays), strict=True))


def take_gradient(net: nn.Module) -> dict[str, Tensor]:
    """The gradient that backward left in a network, which has none afterwards."""
    gradient = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    return gradient

"""The zoo's own inner loop, `zoo.methods.inner_loop.adapt`. Nothing is installed for it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.bench.peers import Problem
from tests.bench.peers.common import load, take_gradient, tasks_of
from zoo.episode import Examples
from zoo.losses import task_cross_entropy
from zoo.methods.inner_loop import adapt, call
from zoo.methods.inner_optimizer import InnerOptimizer
from zoo.methods.preconditioners import Params
from zoo.networks.backbone import Classifier, build_backbone

TITLE = "ours"
INSTALL = ()
ORDERS = ("second", "first", "test")


def zoo_name(name: str) -> str:
    """The zoo's name of a parameter: conv0.weight is backbone.convs.0.weight."""
    layer, _, kind = name.partition(".")
    return name if layer == "head" else f"backbone.{layer[:4]}s.{layer[4:]}.{kind}"


def prepare(problem: Problem, order: str, **options: Any) -> Callable[[], dict[str, Tensor]]:
    """One task's graph at a time; `options` go to the inner optimizer."""
    channels, image = len(problem.weights["conv0.weight"]), problem.support_x.shape[2:]
    names = {name: zoo_name(name) for name in problem.weights}
    backbone = build_backbone(f"conv4[channels={channels}]", image)
    net = load(Classifier(backbone, len(problem.weights["head.bias"])), problem, names)
    tasks = [[tensor.unsqueeze(0) for tensor in task] for task in tasks_of(problem)]
    optimizer = InnerOptimizer(problem.lr, first_order=order == "first", **options)

    def adapted(x: Tensor, y: Tensor) -> Params:
        return adapt(net, Examples(x, y), task_cross_entropy, optimizer, steps=problem.steps)

    def train() -> dict[str, Tensor]:
        for x, y, query_x, query_y in tasks:
            loss = task_cross_entropy(call(net, adapted(x, y), query_x), query_y).mean()
            (loss / len(tasks)).backward()
        gradient = take_gradient(net)
        return {name: gradient[ours] for name, ours in names.items()}

    @torch.inference_mode()
    def test() -> dict[str, Tensor]:
        logits = [call(net, adapted(x, y), query_x) for x, y, query_x, _ in tasks]
        return {"logits": torch.cat(logits)}

    return test if order == "test" else train

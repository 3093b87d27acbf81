"""The learning rate that best explains each inner step of a trained learner.

A learned loss or preconditioner may do no more than change the length of plain gradient steps. So
each step u = theta - theta' is compared with the cross-entropy gradient g of the support at theta:
the rate with the least squared error, sum <u, g> / sum <g, g> over tasks, and the share of u's
square that rate times g explains. A learner whose steps are explained has learned a rate.
"""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from zoo.datasets.episodes.data_module import EpisodicDataModule, MetaBatches, PixelBatch
from zoo.errors import UsageError
from zoo.learner import Learner
from zoo.losses import task_cross_entropy
from zoo.methods.inner_optimizer import InnerOptimizer, Step
from zoo.runs.calibration import single_episodes

COLUMNS = ["step", "layer", "rate", "explained"]


class StepRates:
    """Sums over tasks, of each step and layer, from which the rates follow."""

    def __init__(self) -> None:
        """Start with no step."""
        self.products: dict[tuple[int, str], Tensor] = defaultdict(lambda: torch.zeros(3).double())

    def add(self, step: Step) -> None:
        """Count a step of some tasks."""
        before = {name: p.detach().requires_grad_() for name, p in step.before.items()}
        with torch.enable_grad():
            logits = step.predict(before)
            loss = task_cross_entropy(logits[:, : step.y.shape[1]], step.y).sum()
            gradients = torch.autograd.grad(loss, [*before.values()], materialize_grads=True)
        for (name, p), g in zip(before.items(), gradients, strict=True):
            u = (p - step.after[name]).detach()
            u, g = u.double(), g.double()
            sums = torch.stack([(u * g).sum(), (g * g).sum(), (u * u).sum()]).cpu()
            self.products[step.number, name.rpartition(".")[0]] += sums
            self.products[step.number, ""] += sums

    def frame(self) -> pd.DataFrame:
        """One line for each step and layer.

        Columns: `step`, from 1; `layer`, "" for all; `rate`; `explained`, the share of the step's
        square. nan where the gradient or the step is zero.
        """
        lines = []
        for (step, layer), (ug, gg, uu) in sorted(self.products.items()):
            rate, explained = ug / gg, ug.square() / (gg * uu)
            lines.append((step + 1, layer, float(rate), float(explained)))
        return pd.DataFrame(lines, columns=COLUMNS)


def step_rates(learner: Learner, data: EpisodicDataModule, episodes: int) -> pd.DataFrame:
    """The rates of a learner's inner steps on its first validation episodes, see `StepRates`.

    Raises:
        UsageError: the learner has no inner loop, or there are no validation episodes.
    """
    watched: Any = learner
    optimizer = getattr(learner, "inner_optimizer", None)
    if not isinstance(optimizer, InnerOptimizer):
        raise UsageError(f"{learner.title or type(learner).__name__} has no inner loop to look at")
    if "val" not in data.stores:
        raise UsageError("there is no split val to look at the inner loop on")
    count = min(episodes, data.evaluation["val"])
    rates = StepRates()
    learner.eval()
    watched.inner_optimizer = replace(optimizer, watch=rates.add)
    try:
        with torch.no_grad():
            for batch in MetaBatches(data.stores["val"], data.samplers["val"], count, 1):
                assert isinstance(batch, PixelBatch)
                for episode in single_episodes(data, batch, learner.device):
                    learner(episode)
    finally:
        watched.inner_optimizer = optimizer
    return rates.frame()

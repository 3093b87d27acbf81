"""The pre-training stage: an encoder learns to tell all base classes apart.

It follows NPBML's code (Raymond et al., arXiv 2406.07983), which follows Chen et al., arXiv
1904.04232.

Departures: the learning rate falls at shares of the updates, so that it falls as often in a shorter
training, and batch norm keeps running statistics. For ResNet-12 NPBML's code has another rate: 0.1,
which becomes a tenth after each of 80, 100, 110 and 120 thousand updates (`pretrain_lr`,
`pretrain_drops`).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.batch_norm import set_batch_norm
from zoo.episode import Episode, Examples
from zoo.errors import UsageError
from zoo.methods.embedding import prototypes, squared_distances
from zoo.networks.backbone import Backbone
from zoo.networks.layers import build_head, pointwise
from zoo.precision import FLOAT32, set_precision
from zoo.stage import Stage
from zoo.values import parse_number


def parse_shares(text: str) -> list[float]:
    """Parse ``"0.5 0.75"`` into numbers in [0, 1].

    Raises:
        UsageError: the text holds something else.
    """
    try:
        numbers = [parse_number(word) for word in text.split()]
    except ValueError:
        numbers = [-1.0]
    if not all(0 <= number <= 1 for number in numbers):
        raise UsageError(f'--pretrain_drops {text!r}: expected shares of the updates: "0.5 0.75"')
    return numbers


class Pretrain(Stage):
    """Cross-entropy on all base classes; judged by nearest prototypes on validation episodes."""

    name = "pretrain"

    def __init__(
        self, net: Backbone, targets: Iterable[nn.Module], classes: int, settings: dict[str, Any]
    ) -> None:
        """Put a classifier on an encoder.

        Args:
            net: the encoder.
            targets: modules that get its weights when the stage is finished.
            classes: how many base classes there are.
            settings: those of `zoo.runs.settings.Pretraining`, without the prefix of their names;
                and `precision` if it is not float32.
        """
        super().__init__(net, *targets, settings=settings)
        set_batch_norm(net, "running")
        set_precision(net.modules(), settings.get("precision", FLOAT32))
        self.drops = parse_shares(settings["drops"])
        self.head = build_head(settings["head"], net.features, classes, "pretrain_head")

    def training_step(self, batch: Examples, batch_idx: int) -> Tensor:
        """The mean cross-entropy of a batch of images x (n, *image) with classes y (n,)."""
        loss = F.cross_entropy(self.head(self.net(batch.x)), batch.y)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch.y))
        return loss

    def validation_step(self, batch: Episode, batch_idx: int) -> Tensor:
        """Accuracy of the nearest class mean, (T,)."""
        support, query = (pointwise(self.net, part.x) for part in batch[:2])
        distances = squared_distances(query, prototypes(support, batch.support.y, batch.way))
        accuracy = (distances.argmin(-1) == batch.query.y).float().mean(-1)
        self.log("val/accuracy", accuracy.mean(), prog_bar=True, batch_size=batch.tasks)
        return accuracy

    def configure_optimizers(self) -> Any:
        """SGD with Nesterov momentum and weight decay; at each drop the rate becomes a tenth."""
        settings = self.settings
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=settings["lr"],
            momentum=0.9,
            nesterov=True,
            weight_decay=settings["weight_decay"],
        )
        drops = [share * settings["updates"] for share in self.drops]
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda update: 0.1 ** sum(update >= drop for drop in drops)
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

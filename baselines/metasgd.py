"""Meta-SGD (Li, Zhou, Chen & Li 2017). https://arxiv.org/abs/1707.09835

Departures from the paper:

1. Scale and shift of batch norm are adapted too, at rates of their own.
2. On image sets other than mini-ImageNet, settings that the paper does not print are MAML's.
3. Departures 4, 5 and 6 of MAML (baselines/maml.py).
"""

from typing import Any

from torch import nn

from zoo import register
from zoo.baselines.maml import MAML
from zoo.errors import UsageError
from zoo.methods.inherited_settings import takes_settings_of
from zoo.methods.preconditioners import Diagonal


@register("metasgd")
class MetaSGD(MAML):
    """Learn an initialisation and a learning rate for each of its elements."""

    title = "Meta-SGD"

    @takes_settings_of(
        MAML,
        without=("inner_lr", "preconditioner", "step_rates", "multi_step"),
        inner_steps=1,
        test_steps=1,
        clip=None,
    )
    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        rate_low: float = 0.005,
        rate_high: float = 0.1,
        **maml: Any,
    ) -> None:
        """Defaults are for mini-ImageNet, 5-way 1-shot.

        Args:
            backbone: from images to D features.
            way: N, the same in training and test: the head has one logit per way.
            rate_low: the least rate at the start, where rates are random [section 4].
            rate_high: the largest rate at the start [section 4].
            inner_steps: gradient steps in training [abstract: one].
            test_steps: gradient steps in validation and test [abstract: one].
            outer_lr: beta, of Adam, for weights and rates alike.
            **maml: other settings of MAML.
        """
        if rate_low > rate_high:
            raise UsageError(f"rate_low {rate_low}: must not be above rate_high {rate_high}")
        # theta' = theta - alpha o grad: the learned rates are the whole learning rate.
        super().__init__(backbone, way, inner_lr=1.0, **maml)
        self.precondition = Diagonal(self.net)
        for rate in self.precondition.rates:
            nn.init.uniform_(rate, rate_low, rate_high)

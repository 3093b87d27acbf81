"""Almost No Inner Loop (Raghu, Raghu, Bengio & Vinyals, ICLR 2020). https://arxiv.org/abs/1909.09157

Departures from the paper:

1. Of the paper's settings we know only the number of updates; those of the inner loop are MAML's
   (baselines/maml.py), for mean losses.
2. Departures 4, 5 and 6 of MAML.
"""

from typing import Any

from torch import Tensor, nn

from zoo import Episode, Params, call, register
from zoo.baselines.maml import MAML
from zoo.methods.host import embed
from zoo.methods.inherited_settings import takes_settings_of
from zoo.methods.inner_loop import expanded_parameters
from zoo.networks.backbone import Classifier


@register("anil")
class ANIL(MAML):
    """Learn features that stay the same for all tasks, and a head that gradient steps adapt."""

    title = "ANIL"
    adapts_encoder = False
    net: Classifier

    @takes_settings_of(MAML, without=("preconditioner", "step_rates", "multi_step", "memory"))
    def __init__(self, backbone: nn.Module, way: int, **maml: Any) -> None:
        """Defaults are for mini-ImageNet, 5-way 1-shot.

        Args:
            backbone: from images to D features.
            way: N, the same in training and test: the head has one logit per way.
            inner_lr: alpha, on the mean support loss [as MAML].
            inner_steps: gradient steps in training [as MAML].
            test_steps: gradient steps in validation and test [as MAML].
            clip: outer gradients are clipped to +-clip, element by element; null for none
                [as MAML].
            outer_lr: beta, of Adam [as MAML].
            **maml: other settings of MAML.
        """
        super().__init__(backbone, way, **maml)

    def encode(self, episode: Episode) -> Episode:
        """Features (T, n, D) of every image; each task has its own batch statistics."""
        body = self.net.backbone
        return embed(body, expanded_parameters(body, episode.tasks), episode, self.batch_norm)

    def models(self, episode: Episode) -> Params:
        """Each task's head, adapted to the features of its support."""
        return self.adapt(self.net.head, episode.support)

    def predict(self, models: Params, episode: Episode) -> Tensor:
        """Classify the queries' features: logits (T, N*Q, N)."""
        return call(self.net.head, models, episode.query.x)

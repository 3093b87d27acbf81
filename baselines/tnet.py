"""T-net and MT-net (Lee & Choi, ICML 2018). https://arxiv.org/abs/1801.05558

Departures from the paper:

1. `inner_lr` and `clip` are for mean losses, as in departures 1 and 2 of MAML (baselines/maml.py):
   the authors' code is a fork of MAML's.
2. The parameters of the inner loop are the products T W, on which a step on W is T M T^T g. This
   gives the same numbers without changing the networks. As in the paper, T is between a convolution
   and its batch norm, which undoes any factor on a channel. There T's diagonal learns no rates, and
   what matters is how it mixes channels. The head's T, N x N, has no norm behind it, and all of it
   matters.
3. Scale and shift of batch norm are adapted too, by plain steps.
4. In validation and test each mask is its mean, so that a test is deterministic; theirs are drawn
   there too. Masks start at even odds (authors' code).
5. `mask` is off by default, for comparison with the published numbers of T-net; MT-net is
   `tnet[mask=true]`.
6. Departures 4, 5 and 6 of MAML.
"""

from typing import Any

from torch import nn

from zoo import register
from zoo.baselines.maml import MAML
from zoo.methods.inherited_settings import takes_settings_of
from zoo.methods.preconditioners import TNet


@register("tnet")
class TNetLearner(MAML):
    """Learn an initialisation and, for each layer, a metric for its gradient steps."""

    title = "T-Net"

    @takes_settings_of(MAML, without=("preconditioner", "step_rates", "multi_step"))
    def __init__(self, backbone: nn.Module, way: int, *, mask: bool = False, **maml: Any) -> None:
        """Defaults are for mini-ImageNet, 5-way 1-shot.

        Args:
            backbone: from images to D features.
            way: N, the same in training and test: the head has one logit per way.
            mask: MT-net: learn for each output of a layer how likely inner steps move it
                [authors' code].
            inner_lr: alpha, on the mean support loss [authors' code: 0.01 on the summed one].
            inner_steps: gradient steps in training [authors' code].
            test_steps: gradient steps in validation and test [authors' code].
            batch_norm: ``batch`` uses the statistics of the current batch; ``support`` is the
                inductive variant [authors' code].
            clip: outer gradients are clipped to +-clip, element by element; null for none
                [authors' code].
            outer_lr: beta, of Adam, for W, T and the masks' odds [authors' code].
            **maml: other settings of MAML.
        """
        super().__init__(backbone, way, **maml)
        self.precondition = TNet(self.net, mask)

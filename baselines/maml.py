"""Model-Agnostic Meta-Learning (Finn, Abbeel & Levine, ICML 2017). https://arxiv.org/abs/1703.03400

Departures from the paper:

1. `inner_lr` is for the *mean* cross-entropy. The authors' code sums it over the ways (each
   example's loss divided by K, summed over N*K), so their printed 0.4, 0.1 and 0.01 are 2.0, 2.0
   and 0.05 here (github cbfinn/maml, utils.py `xent`).
2. `clip` is for the mean query loss. Theirs, +-10, is for a sum divided by K: 10 K / (N Q) here.
3. Scale and shift of batch norm are adapted too; theirs has no scale, and does not adapt the shift.
4. Weights start as PyTorch's do; theirs by Xavier's rule, the head by a truncated normal.
5. Test episodes have 15 queries per class (Omniglot 5), as for every learner; theirs have K.
6. We test the checkpoint that was best on validation; the paper does not say which it tests.
7. `step_rates` and `multi_step` are from MAML++ (Antoniou et al. 2019, arXiv 1810.09502), not from
   the paper. If a test takes more steps than training, the further ones use the last step's rates.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from zoo import Episode, Examples, InnerOptimizer, Params, adapt, call, register
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.methods.host import Host
from zoo.methods.inner_optimizer import Step
from zoo.methods.preconditioners import LayerRates, Preconditioner, build_preconditioner
from zoo.networks.backbone import Classifier, batch_norm_context
from zoo.networks.layers import FixedImages

MULTI_STEP = 0.15  # share of the updates with a query loss after every step: 15 of 100 epochs


@register("maml")
class MAML(Host):
    """Learn an initialisation from which a few gradient steps solve a task."""

    title = "MAML"
    family = "gradient"
    fixed_way = True
    way_equivariant = False
    gradient_based = True
    regression = True
    adapts_encoder = True

    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        inner_lr: float = 0.05,
        inner_steps: int = 5,
        test_steps: int = 10,
        first_order: bool = False,
        preconditioner: str = "none",
        step_rates: bool = False,
        multi_step: bool = False,
        batch_norm: str = "batch",
        memory: str = "full",
        clip: float | None = 0.133,
        outer_lr: float = 1e-3,
    ) -> None:
        """Defaults are for mini-ImageNet, 5-way 1-shot.

        Args:
            backbone: from images to D features.
            way: N, the same in training and test: the head has one logit per way.
            inner_lr: alpha, on the mean support loss [section 5.2: 0.01 on the summed one].
            inner_steps: gradient steps in training [section 5.2].
            test_steps: gradient steps in validation and test [section 5.2].
            first_order: drop the second derivatives, FOMAML [section 5.2, "first order approx."].
            preconditioner: how steps are learned, such as warp or gap [not in the paper].
            step_rates: learn a rate for each parameter tensor and step, starting at inner_lr
                [MAML++].
            multi_step: early in training, take the query loss after every inner step [MAML++].
            batch_norm: ``batch`` [authors' code], or ``support``: the inductive variant.
            memory: ``low`` computes the same second-order gradient in less memory and more time.
            clip: outer gradients are clipped to +-clip, element by element; null for none
                [authors' code].
            outer_lr: beta, of Adam [authors' code].
        """
        if batch_norm == "running":  # an adapted network has no running statistics of its own
            raise UsageError(f"batch_norm running: {self.title} has batch and support")
        if multi_step and not inner_steps:
            raise UsageError("multi_step: needs inner_steps of at least 1")
        if step_rates and preconditioner != "none":
            raise UsageError("step_rates: is itself a preconditioner; leave the other out")
        super().__init__(Classifier(backbone, way), way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.precondition: Preconditioner = build_preconditioner(preconditioner, self.net)
        if step_rates:  # these replace inner_lr instead of multiplying it
            self.precondition = LayerRates(self.net, inner_steps)
            nn.init.constant_(self.precondition.rates, inner_lr)
        self.inner_optimizer = InnerOptimizer(
            1.0 if step_rates else inner_lr, first_order=first_order, memory=memory
        )
        self.inner_steps, self.test_steps = inner_steps, test_steps
        self.multi_step, self.clip_value = multi_step, clip
        self.length_matters = multi_step  # the losses' weights depend on the training's progress
        self.transductive = self.batch_norm == "batch"

    def models(self, episode: Episode) -> Params:
        """Each task's theta'."""
        return self.adapt(self.net, episode.support)

    def adapt(
        self, net: nn.Module, support: Examples, watch: Callable[[Step], None] | None = None
    ) -> Params:
        """Take several steps theta' = theta - alpha grad L_T(f_theta) (eq. 1)."""
        optimizer = replace(self.inner_optimizer, precondition=self.precondition)
        if watch is not None:
            optimizer = replace(optimizer, watch=watch)
        steps = self.inner_steps if self.training else self.test_steps
        return adapt(net, support, task_loss, optimizer, steps=steps)

    def predict(self, models: Params, episode: Episode) -> Tensor:
        """f_theta'(queries): logits (T, N*Q, N)."""
        support, query = episode.support.x, episode.query.x
        if self.batch_norm != "support":
            return call(self.net, models, query)
        x, rows = torch.cat([support, query], 1), support.shape[1]
        with batch_norm_context(self.net, support_rows=rows, fixed=FixedImages(x)):
            return call(self.net, models, x)[:, rows:]

    def meta_loss(self, episode: Episode) -> Tensor:
        """The query loss of theta'; with multi_step, early in training that of every step."""
        if not self.multi_step or self.progress >= MULTI_STEP:
            return super().meta_loss(episode)
        losses: list[Tensor] = []

        def add_loss(step: Step) -> None:
            losses.append(task_loss(self.predict(step.after, episode), episode.query.y).mean())

        self.adapt(self.net, episode.support, add_loss)
        weights = multi_step_weights(len(losses), self.progress / MULTI_STEP)
        return torch.stack(losses) @ losses[0].new_tensor(weights)


def multi_step_weights(steps: int, done: float) -> list[float]:
    """Weights of the query losses after each inner step (MAML++), which add up to 1.

    All start at 1/S. Those before the last fall linearly to 0.03/S, and the last gets the rest.

    Args:
        steps: S, the number of inner steps.
        done: how much of the annealing is done, from 0 to 1.
    """
    early = max(1 - done, 0.03) / steps
    return [early] * (steps - 1) + [1 - early * (steps - 1)]

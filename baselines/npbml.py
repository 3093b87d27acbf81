"""NPBML (Raymond, Chen, Xue & Zhang 2024). https://arxiv.org/abs/2406.07983

Departures from the paper:

1. Eq. 9 and 10 do not say whether a step is on theta or on omega theta. Here it is on the product,
   which is what R sees; omega is a 1x1 convolution, as in T-Net, and the head has none. Batch norm
   follows it and takes out what omega multiplies a channel by, so omega's diagonal cannot learn
   rates, as the paper says omega does: what acts is how it mixes channels. R alone sees the
   diagonal.
2. `preconditioner=post_block` is the authors' code's omega: behind the pooled block, a 3x3
   convolution that starts as the identity, with a batch norm and FiLM of its own, no ReLU. The norm
   is there from the start, so the first update is no longer MAML's on the same encoder.
3. L^Q's base loss is the cross-entropy against the relation scores divided by their sum;
   `hard_labels`: the authors' code takes their largest for a label.
4. Relation scores come from a small head on the pre-trained encoder, which costs a fraction of the
   paper's whole Relation Network, `relation=network`.
5. "Prediction" in L^S's and L^Q's input is the logits. FiLM is behind their two hidden layers.
6. Statistics for R are of weights, not of the head's bias, and right: the authors' code takes L2
   for L1, and detaches mean and deviation. L1 is divided by the root of the number of weights:
   with FiLM, R else outweighs the base loss from the start, a thousandfold in ResNet-12.
7. Each way's row of the head starts as one shared row; in the authors' code it is copied without a
   gradient. It learns by L^S, L^Q and R: what ways have in common does not change a softmax.
8. In ResNet-12 all convolutions of the last block adapt, each with its own omega and FiLM.
9. The last prediction sees support and queries, as the steps do; in the authors' code queries.
"""

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from zoo import Episode, Examples, InnerOptimizer, Learner, Params, adapt, call, register
from zoo.baselines.npbml_losses import LearnedLoss, components_of
from zoo.baselines.npbml_network import AdaptedTail, SharedRow, Trunk, run_own_weights
from zoo.baselines.npbml_relation import Relate, Relations
from zoo.methods.inner_loop import differentiable_copies
from zoo.methods.preconditioners import Chain, build_preconditioner
from zoo.networks.backbone import batch_norm_context
from zoo.stage import Stage


@register("npbml")
class NPBML(Learner):
    """Learn the start, the steps and the loss of an inner loop, and how tasks modulate them."""

    title = "NPBML"
    family = "gradient"
    gradient_based = True
    net: AdaptedTail
    relations: Relations | None

    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        loss: str = "all",
        warp: bool = True,
        preconditioner: str = "warp",
        film: bool = True,
        inductive: bool = False,
        frozen: bool = True,
        relation: str = "head",
        relation_updates: int = 100000,
        relation_shot: int = 5,
        hard_labels: bool = False,
        inner_lr: float = 0.01,
        inner_steps: int = 5,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        cosine: bool = False,
        outer_lr: float = 1e-5,
    ) -> None:
        """Defaults are for mini-ImageNet; the encoder is to come pre-trained.

        Args:
            backbone: from images to D features, of blocks of convolutions.
            way: N; with L^S or L^Q the same in training and test.
            loss: what is added to the base loss: all, none, or some of support, query,
                regulariser, joined by + [Table 4].
            warp: whether steps are preconditioned [Table 3].
            preconditioner: by what: warp [eq. 10], post_block [authors' code]; the paper has not
                rate, layer_rates, element_rates, meta_curvature and gap.
            film: whether FiLM modulates encoder and losses [Table 3].
            inductive: no L^Q, and batch norm by the support's statistics [not in the paper].
            frozen: blocks before the last keep their pre-trained weights [authors' code].
            relation: where relation scores are from: head, network [sections 3.2, 4].
            relation_updates: of its training before [authors' code]; 0 for none.
            relation_shot: K of its training episodes.
            hard_labels: L^Q takes the largest score for a label [authors' code].
            inner_lr: alpha [authors' code].
            inner_steps: gradient steps, in training and test [section 4].
            momentum: of the inner steps, Nesterov's [section 4; 0.9 in authors' code].
            weight_decay: of the inner steps [section 4; 5e-4 in authors' code].
            cosine: the outer rate falls to a tenth by a cosine [authors' code].
            outer_lr: eta, of Adam [section 4].
        """
        components = components_of(loss, inductive)
        relations = Relations(relation, backbone)  # before there is more in it
        net, mode = AdaptedTail(backbone, film, frozen), "support" if inductive else "batch"
        super().__init__(net, way, batch_norm=mode, outer_lr=outer_lr)
        self.inductive, self.frozen, self.cosine = inductive, frozen, cosine
        self.losses = LearnedLoss(components, way, net.weights, film, hard_labels)
        self.precondition = build_preconditioner(
            preconditioner if warp else "none", net, net.adapted
        )
        self.inner_steps = inner_steps
        self.inner_optimizer = InnerOptimizer(
            inner_lr, momentum=momentum, weight_decay=weight_decay
        )
        self.relations = relations if "query" in components else None
        self.copies = relations.copies if self.relations else ()
        self.relation_updates, self.relation_shot = relation_updates, relation_shot
        ordered = bool(components & {"support", "query"})  # these read N numbers in their order
        self.fixed_way, self.way_equivariant = ordered, not ordered
        self.transductive = self.relations is not None or self.batch_norm == "batch"

    def forward(self, episode: Episode) -> Tensor:
        """Adapt to each task by the learned loss and steps, then predict: logits (T, N*Q, N)."""
        x, rows = torch.cat([episode.support.x, episode.query.x], 1), episode.support.y.shape[1]
        maps = run_own_weights(Trunk(self.net.backbone), x, rows)  # no inner step changes them
        theta = self.adapt(maps, self.scores(maps, x, episode), episode)
        with batch_norm_context(self.net, support_rows=rows):
            return call(self.net, theta, maps)[:, rows:]

    def scores(self, maps: Tensor, x: Tensor, episode: Episode) -> Tensor | None:
        """How well queries and classes go together: (T, N*Q, N); None where no loss asks."""
        if self.relations is None:
            return None
        known = maps if self.frozen else None  # it has the same trunk
        return differentiable_copies(self.relations(x, episode.support.y, episode.way, known))[0]

    def adapt(self, maps: Tensor, relations: Tensor | None, episode: Episode) -> Params:
        """theta <- theta - alpha omega omega^T grad M, with momentum and decay (eq. 10)."""
        y = episode.support.y
        seen = Examples(maps[:, : y.shape[1]] if self.inductive else maps, y)
        losses = partial(self.losses, relations=relations)
        p = Chain(SharedRow(self.net.adapted, episode.way), self.precondition)
        r = self.losses.regulariser
        optimizer = replace(self.inner_optimizer, precondition=p, penalty=r)
        return adapt(self.net, seen, losses, optimizer, steps=self.inner_steps)

    def stages(self) -> list[Stage]:
        """What gives relation scores is trained before, where a loss asks for them."""
        if self.relations is None or not self.relation_updates:
            return []
        return [Relate(self.relations, self.way, self.relation_shot, self.relation_updates)]

    def anneal(self, progress: float) -> float:
        """From 1 to a tenth by a cosine, where asked for."""
        return 0.55 + 0.45 * math.cos(math.pi * progress) if self.cosine else 1.0

"""NPBML (Raymond, Chen, Xue & Zhang 2024). https://arxiv.org/abs/2406.07983

Departures from the paper:

1. Eq. 9 and 10 do not say whether a step is on theta or on omega theta. Here it is on the product,
   which is also what R sees. Omega is a 1x1 convolution, as in T-Net, and the head has none. Batch
   norm follows it and undoes any factor on a channel. So omega's diagonal cannot learn rates, as
   the paper says omega does; what matters is how it mixes channels. Only R sees the diagonal.
2. `preconditioner=post_block` is omega as in the authors' code: behind the pooled block, a 3x3
   convolution that starts as the identity, with a batch norm and FiLM of its own, no ReLU. The norm
   is there from the start, so the first update is no longer MAML's on the same encoder.
3. L^Q's base loss is the cross-entropy with the relation scores divided by their sum. The authors'
   code takes the class with the largest score as the label: `hard_labels`.
4. Relation scores come from a small head on the pre-trained encoder, which costs a fraction of the
   paper's whole Relation Network, `relation=network`.
5. We take "prediction" in the inputs of L^S and L^Q to be the logits. FiLM is behind both hidden
   layers of these losses.
6. The statistics for R are of the weights, without the head's bias. The authors' code uses L2 in
   place of L1, and detaches mean and deviation; here neither. L1 is divided by the square root of
   the number of weights, or else R, with FiLM, would outweigh the base loss from the start, by a
   factor of a thousand in ResNet-12.
7. The head's rows, one per way, start as copies of one shared row; the authors' code copies it
   without a gradient. It learns from L^S, L^Q and R alone, because what all ways have in common
   does not change a softmax.
8. In ResNet-12 all convolutions of the last block adapt, each with its own omega and FiLM.
9. The final prediction runs on support and queries, as the steps do; the authors' on queries alone.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo import Episode, Examples, InnerOptimizer, Learner, Params, adapt, call, register
from zoo.baselines.npbml_losses import LearnedLoss, base_loss, components_of
from zoo.baselines.npbml_network import AdaptedTail, SharedRow, Trunk, run_own_weights
from zoo.baselines.npbml_relation import Relations, RelationStage
from zoo.errors import UsageError
from zoo.methods.inner_loop import differentiable_copies
from zoo.methods.preconditioners import Chain, build_preconditioner
from zoo.networks.backbone import batch_norm_context
from zoo.stage import Stage


@register("npbml")
class NPBML(Learner):
    """Learn the start, the steps and the loss of an inner loop, and how a task modulates them."""

    title = "NPBML"
    family = "gradient"
    gradient_based = True
    added_later: Mapping[str, Any] = {"scale_free": False}
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
        scale_free: bool = False,
        inner_lr: float = 0.01,
        inner_steps: int = 5,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        cosine: bool = False,
        outer_lr: float = 1e-5,
    ) -> None:
        """Defaults are for mini-ImageNet; the encoder should be pre-trained.

        Args:
            backbone: from images to D features, of blocks of convolutions.
            way: N; with L^S or L^Q the same in training and test.
            loss: what is added to the base loss: all, none, or some of support, query,
                regulariser, joined by + [Table 4].
            warp: whether steps are preconditioned [Table 3].
            preconditioner: how: warp [eq. 10], post_block [authors' code]; not in the paper are
                rate, layer_rates, element_rates, meta_curvature and gap.
            film: whether FiLM modulates encoder and losses [Table 3].
            inductive: no L^Q, and batch norm by the support's statistics [not in the paper].
            frozen: blocks before the last keep their pre-trained weights [authors' code].
            relation: what gives relation scores: head, network [sections 3.2, 4].
            relation_updates: length of its training, before meta-training [authors' code]; 0 for
                none.
            relation_shot: K of its training episodes.
            hard_labels: L^Q takes the class with the largest score as label [authors' code].
            scale_free: whether, for each parameter tensor, only the part of the learned losses'
                gradient at right angles to the base loss's gradient is added, so that these losses
                cannot act as another inner rate [not in the paper].
            inner_lr: alpha [authors' code].
            inner_steps: gradient steps, in training and test [section 4].
            momentum: of the inner steps, Nesterov's [section 4; 0.9 in authors' code].
            weight_decay: of the inner steps [section 4; 5e-4 in authors' code].
            cosine: the outer rate falls to a tenth by a cosine [authors' code].
            outer_lr: eta, of Adam [section 4].
        """
        components = components_of(loss, inductive)
        if scale_free and not components:
            raise UsageError("scale_free: without a learned loss there is no scale to leave out")
        relations = Relations(relation, backbone)  # copies it before FiLM and the head are added
        net = AdaptedTail(backbone, film, frozen)
        batch_norm = "support" if inductive else "batch"
        super().__init__(net, way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.inductive, self.frozen, self.cosine = inductive, frozen, cosine
        self.scale_free = scale_free
        self.losses = LearnedLoss(components, way, net.weights, film, hard_labels)
        self.precondition = build_preconditioner(
            preconditioner if warp else "none", net, net.adapted
        )
        self.inner_steps = inner_steps
        self.inner_optimizer = InnerOptimizer(
            inner_lr, momentum=momentum, weight_decay=weight_decay
        )
        self.relations = relations if "query" in components else None
        self.backbone_copies = relations.backbone_copies if self.relations else ()
        self.relation_updates, self.relation_shot = relation_updates, relation_shot
        ordered = bool(components & {"support", "query"})  # their networks read N numbers in order
        self.fixed_way = ordered
        self.way_equivariant = not ordered
        self.transductive = self.relations is not None or self.batch_norm == "batch"

    def forward(self, episode: Episode) -> Tensor:
        """Adapt to each task by the learned loss and steps, then predict: logits (T, N*Q, N)."""
        x = torch.cat([episode.support.x, episode.query.x], 1)
        rows = episode.support.y.shape[1]
        maps = run_own_weights(Trunk(self.net.backbone), x, rows)  # inner steps do not change it
        theta = self.adapt(maps, self.scores(maps, x, episode), episode)
        with batch_norm_context(self.net, support_rows=rows):
            return call(self.net, theta, maps)[:, rows:]

    def scores(self, maps: Tensor, x: Tensor, episode: Episode) -> Tensor | None:
        """Relation scores of queries and classes, (T, N*Q, N); None if no loss needs them.

        `maps` are the trunk's maps of the images x.
        """
        if self.relations is None:
            return None
        trunk_maps = maps if self.frozen else None  # if frozen, the relations have the same trunk
        scores = self.relations(x, episode.support.y, episode.way, trunk_maps)
        return differentiable_copies(scores)[0]

    def adapt(self, maps: Tensor, relations: Tensor | None, episode: Episode) -> Params:
        """Adapt the last block and the head to each task.

        With `preconditioner=warp` a step is theta - alpha omega omega^T grad M (eq. 10), with
        Nesterov momentum and weight decay.

        Returns:
            All parameters of the two, each with a leading T.
        """
        y = episode.support.y
        inputs = Examples(maps[:, : y.shape[1]] if self.inductive else maps, y)
        losses = partial(self.losses, relations=relations)
        precondition = Chain(SharedRow(self.net.adapted, episode.way), self.precondition)
        optimizer = replace(
            self.inner_optimizer,
            precondition=precondition,
            penalty=self.losses.regulariser,
            reference=base_loss if self.scale_free else None,
        )
        return adapt(self.net, inputs, losses, optimizer, steps=self.inner_steps)

    def stages(self) -> list[Stage]:
        """The training of the network that gives relation scores, if a loss needs them."""
        if self.relations is None or not self.relation_updates:
            return []
        return [RelationStage(self.relations, self.way, self.relation_shot, self.relation_updates)]

    def anneal(self, progress: float) -> float:
        """Fall from 1 to a tenth by a cosine, if asked for."""
        return 0.55 + 0.45 * math.cos(math.pi * progress) if self.cosine else 1.0

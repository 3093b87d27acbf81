"""NPBML (Raymond, Chen, Xue & Zhang 2024). https://arxiv.org/abs/2406.07983

Departures from the paper:

1. Eq. 9 and 10 do not say whether a step is on theta or on omega theta. Here it is on the product,
   which so is what weight decay and R see; omega is a 1x1 convolution, as in T-Net.
2. `preconditioner=post_block` is where the authors' code has omega, a 3x3 convolution behind the
   pooled block, but without the norm and FiLM of its own: it starts as the identity.
3. L^Q's base loss is the cross-entropy against the relation scores divided by their sum; the
   authors' code takes their largest for a label.
4. Relation scores come from a small head on the encoder as it was pre-trained; the paper has a
   whole Relation Network, which costs several times the rest.
5. "Prediction" in L^S's and L^Q's input is the logits. FiLM is behind their two hidden layers.
6. Statistics for R are of weights, not of the head's bias, and right: the authors' code takes L2
   for L1, and detaches mean and deviation. L1 is divided by the root of the number of weights:
   else R outweighs the base loss from the start, a thousandfold in ResNet-12.
7. Each way's row of the head starts as one shared row; in the authors' code it is copied without a
   gradient. It learns by L^S, L^Q and R: what ways have in common does not change a softmax.
8. In ResNet-12 all convolutions of the last block adapt, each with its own omega and FiLM.
"""

import copy
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from baselines.protonet import prototypes
from zoo import Episode, Examples, Learner, Params, adapt, call, register
from zoo.backbones import BlockNet, normalising
from zoo.inner_loop import usable
from zoo.late_layers import Last, SharedRow, Tail, Trunk, once
from zoo.learned_losses import LearnedLoss, RelationHead, components_of
from zoo.preconditioners import build
from zoo.steps import Chain


@register("npbml")
class NPBML(Learner):
    """Learn the start, the steps and the loss of an inner loop, and how tasks modulate them."""

    title = "NPBML"
    family = "gradient"
    gradient_based = True
    net: Tail
    encoder: BlockNet

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
            inner_lr: alpha [authors' code].
            inner_steps: gradient steps, in training and test [section 4].
            momentum: of the inner steps, Nesterov's [section 4; 0.9 in authors' code].
            weight_decay: of the inner steps [section 4; 5e-4 in authors' code].
            cosine: the outer rate falls to a tenth by a cosine [authors' code].
            outer_lr: eta, of Adam [section 4].
        """
        components = components_of(loss, inductive)
        encoder: Any = copy.deepcopy(backbone)  # as it came
        net, mode = Tail(backbone, film), "support" if inductive else "batch"
        super().__init__(net, way, batch_norm=mode, outer_lr=outer_lr)
        if frozen:
            net.freeze()
        self.inductive, self.frozen, self.cosine = inductive, frozen, cosine
        self.losses = LearnedLoss(components, way, net.weights, film)
        self.precondition = build(preconditioner if warp else "none", net, net.adapted)
        self.inner_lr, self.inner_steps = inner_lr, inner_steps
        self.momentum, self.weight_decay = momentum, weight_decay
        if "query" in components:
            self.encoder = encoder.requires_grad_(False)
            self.relation = RelationHead(net.backbone.widths[-1]).requires_grad_(False)
        ordered = bool(components & {"support", "query"})  # these read N numbers in their order
        self.fixed_way, self.way_equivariant = ordered, not ordered
        self.transductive = "query" in components or self.batch_norm == "batch"

    def forward(self, episode: Episode) -> Tensor:
        """Adapt to each task by the learned loss and steps, then predict: logits (T, N*Q, N)."""
        x = torch.cat([episode.support.x, episode.query.x], 1)  # batch norm mixes both
        maps = once(Trunk(self.net.backbone), x, self.rows(episode))  # no inner step changes them
        theta = self.adapt(maps, self.relations(maps, x, episode), episode)
        return self.predict(theta, maps, episode)

    def relations(self, maps: Tensor, x: Tensor, episode: Episode) -> Tensor | None:
        """How well queries and classes' mean supports go together: (T, N*Q, N)."""
        if not hasattr(self, "relation"):
            return None
        rows = self.rows(episode)
        maps = maps if self.frozen else once(Trunk(self.encoder), x, rows)
        z = once(Last(self.encoder), maps, rows)
        classes = prototypes(z[:, :rows], episode.support.y, episode.way)
        return usable(self.relation(z[:, rows:], classes))[0]

    def adapt(self, maps: Tensor, relations: Tensor | None, episode: Episode) -> Params:
        """theta <- theta - alpha omega omega^T grad M, with momentum and decay (eq. 10)."""
        y, rows = episode.support.y, self.rows(episode)
        return adapt(
            self.net,
            Examples(maps[:, :rows] if self.inductive else maps, y),
            partial(self.losses, relations=relations),
            lr=self.inner_lr,
            steps=self.inner_steps,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            precondition=Chain(SharedRow(self.net.adapted, episode.way), self.precondition),
            penalty=self.losses.regulariser,
        )

    def predict(self, theta: Params, maps: Tensor, episode: Episode) -> Tensor:
        """f_theta' of the queries, the support beside them: logits (T, N*Q, N)."""
        rows = self.rows(episode)
        with normalising(self.net, support_rows=rows):
            return call(self.net, theta, maps)[:, rows:]

    def rows(self, episode: Episode) -> int:
        """How many of an episode's images are the support: N*K."""
        return episode.support.x.shape[1]

    def anneal(self, progress: float) -> float:
        """From 1 to a tenth by a cosine, where asked for."""
        return 0.55 + 0.45 * math.cos(math.pi * progress) if self.cosine else 1.0

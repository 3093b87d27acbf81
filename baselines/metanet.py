"""Meta Networks (Munkhdalai & Yu, ICML 2017). https://arxiv.org/abs/1703.00837

Departures from the paper:

1. Max-pools keep an odd row or column (28, 14, 7, 4, 2, 1); no layer has a bias (authors' code).
2. We take "the last three layers" to be the last convolution, the fully connected layer and the
   softmax. The code has two fast convolutions on mini-ImageNet (`fast_convs=2`; batch norm in the
   other three, which we leave out) and five on Omniglot. Only conv5 can have fast convolutions.
3. The width of the fully connected layer is not printed; the code has 64 on Omniglot, 288 on
   mini-ImageNet (`hidden=288`). Its output r is taken before the ReLU, as in the code.
4. The paper does not say whether the outer loop differentiates the gradients that d and m read. As
   in the code it does not (`detach`); then nothing trains the softmax of u, which stays as drawn.
5. T is not printed. Here d reads `draws` gradients, each of a single example; the code has 5 or 10
   groups of examples. With more than one shot they are gradients of pairs, by turns of one class
   and of two (pairs and margin are ours).
6. All layers share d and m; in the code convolutions have their own. MetaNet+ has a second d.
7. `clip` is for the mean query loss; the code's, 10, is for a sum: 10 / (N Q) here.
8. Biases of d and m start at 0 (authors' code); backbones other than conv5 start as elsewhere.
9. The code trains on ten ways of mini-ImageNet, and on augmented images of Omniglot.

On Omniglot 5-way 1-shot, accuracy is 95.4 % (printed: 98.95) after 7,500 tasks, and still rises.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, register
from zoo.baselines.metanet_layers import (
    ByLSTM,
    ByMLP,
    FastTail,
    SideBySide,
    attention,
    contrastive,
    pairs,
    split_network,
)
from zoo.errors import UsageError
from zoo.methods.embedding import EmbeddingLearner
from zoo.methods.inner_loop import gradient_of


@register("metanet")
class MetaNet(EmbeddingLearner):
    """Compute fast weights for each query from the loss gradients of the support."""

    title = "MetaNet"
    family = "memory"
    fixed_way = True
    way_equivariant = False
    gradient_based = True

    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        hidden: int = 64,
        fast_convs: int = 1,
        units: int = 20,
        p: float = 7.0,
        draws: int = 5,
        margin: float = 1.0,
        variant: str | None = None,
        detach: bool = True,
        batch_norm: str = "running",
        clip: float | None = 0.133,
        outer_lr: float = 1e-3,
    ) -> None:
        """Defaults are for mini-ImageNet.

        Args:
            backbone: from images to D features, for b and, with separate weights, for u.
            way: N, the same in training and test: the head has one logit per way.
            hidden: units of the fully connected layer, the length of r [authors' code].
            fast_convs: how many of conv5's convolutions take fast weights [section 4].
            units: of the LSTM d and of the layers of the MLP m [section 4].
            p: of the preprocessing of gradients [section 4].
            draws: T, how many gradients d reads, or all if there are fewer [ours].
            margin: of the contrastive loss, for more than one shot [ours].
            variant: ``minus`` without task-level weights, ``plus`` with them in b too [section 4].
            detach: whether the support's gradients are constants to the outer loop [authors' code].
            batch_norm: mode of backbones with batch norm; conv5 has none [ours].
            clip: norm to which the outer gradient is clipped; null for none [authors' code].
            outer_lr: of Adam [section 4].
        """
        if variant not in (None, "minus", "plus"):
            raise UsageError(f"variant {variant}: choose from null, minus, plus")
        for name, value in (("hidden", hidden), ("units", units), ("draws", draws)):
            if value < 1:
                raise UsageError(f"{name} {value}: expected a number of at least 1")
        b, base = split_network(backbone, fast_convs, hidden, way)
        u, look = split_network(backbone, fast_convs, hidden, way)
        super().__init__(SideBySide(b, u), way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.base, self.look = base, look  # the last layers of b and of u
        self.m = ByMLP(units, p)
        self.d = None if variant == "minus" else ByLSTM(units, p)
        self.d_base = ByLSTM(units, p) if variant == "plus" else None
        self.draws = draws
        self.margin = margin
        self.detach = detach
        self.clip_norm = clip
        self.sequential = self.d is not None

    def forward(self, episode: Episode) -> Tensor:
        """Fill a memory from the support, read it for each query: logits (T, N*Q, N)."""
        y, rows = episode.support.y, episode.support.y.shape[1]
        z_b, z_u = torch.cat(self.embed(episode), 1).chunk(2, -1)  # features of b and of u
        g = self.example_gradients(self.base, z_b[:, :rows], y)
        memory = self.m(g)  # M: W*_i of each example, (T, N*K, P)
        r = self.represent(z_u, y, episode.way)
        fast = [attention(r[:, rows:], r[:, :rows]) @ memory]  # W* of each query, (T, N*Q, P)
        if self.d_base is not None:
            fast.append(self.d_base(g[:, : self.draws]))
        _, logits = self.base(z_b[:, rows:], self.base.weights, *fast)
        return logits

    def represent(self, z: Tensor, y: Tensor, way: int) -> Tensor:
        """r = u(Q, Q*, x) with Q* = d(G, gradients): (T, N*K + N*Q, H) (section 3.1)."""
        if self.d is None:
            return self.look(z, self.look.weights)[0]
        z_support = z[:, : y.shape[1]]
        if y.shape[1] == way:  # one shot
            g = self.example_gradients(self.look, z_support, y)[:, : self.draws]
        else:
            g = self.pair_gradients(z_support, y, way)
        return self.look(z, self.look.weights, self.d(g))[0]

    def example_gradients(self, tail: FastTail, z: Tensor, y: Tensor) -> Tensor:
        """Gradients of each example's cross-entropy in the slow weights of `tail`.

        z (T, n, D), y (T, n) -> (T, n, P)
        """

        def losses(weights: Tensor, z: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(tail(z, weights)[1].mT, y, reduction="none")

        weights = tail.weights.expand(*y.shape, -1)
        return gradient_of(losses, weights, z, y, detach=self.detach)

    def pair_gradients(self, z: Tensor, y: Tensor, way: int) -> Tensor:
        """Gradients of the contrastive loss of a few pairs in the slow weights: (T, draws, P)."""

        def losses(weights: Tensor, one: Tensor, other: Tensor, same: Tensor) -> Tensor:
            r, s = self.look(one, weights)[0], self.look(other, weights)[0]
            return contrastive(r, s, same, self.margin)

        one, other, same = pairs(z, y, way, self.draws)
        weights = self.look.weights.expand(*same.shape, -1)
        return gradient_of(losses, weights, one, other, same, detach=self.detach)

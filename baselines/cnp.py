"""Conditional Neural Processes (Garnelo et al., ICML 2018). https://arxiv.org/abs/1807.01613

Departures from the paper:

1. Regression follows the authors' notebook (github deepmind/neural-processes) where the paper's
   text differs: h has four layers of 128 units, g two and an output. We use the same for image
   completion, whose networks are not printed.
2. Classification (section 4.3) follows our memory of the paper, whose text we could not get: an
   encoder of three convolutional layers, averages within each class, concatenated, and a decoder
   of three layers. The re-implementation github Bottledd/ConditionalNeuralProcesses has such an
   encoder and such averages. Our encoder is a Conv-4, and g gets a query as h embeds it. Widths and
   length of training are ours. g has to learn what makes two images alike, and does so in steps: on
   Omniglot (5-way 1-shot) validation accuracy was 55, 56, 57, 72 and 71 % after each fifth of 6,000
   updates (results/). The published 95.3 is unconfirmed.
3. As in the notebook, a training step predicts all its points, and its context is a random number
   of the support's. The number of queries is fixed; the notebook draws it from 2 to 9.
4. We test the checkpoint with the best mean squared error (accuracy) on validation tasks.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

from zoo import Episode, Examples, register
from zoo.backbone_contract import features_of
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.methods.embedding import EmbeddingLearner, prototypes
from zoo.networks.backbone import Backbone, Classifier, build_backbone
from zoo.networks.layers import pointwise
from zoo.networks.mlp import MLP


@register("cnp")
class CNP(EmbeddingLearner):
    """Average representations of the support examples, and predict each query from the average."""

    title = "CNP"
    family = "neural process"
    fixed_way = True
    way_equivariant = False
    regression = True

    def __init__(
        self,
        backbone: Backbone,
        way: int,
        *,
        aggregate: str | None = None,
        decoder: str = "mlp[width=128,depth=2]",
        min_context: int = 3,
        min_sd: float = 0.1,
        batch_norm: str = "running",
        outer_lr: float = 1e-4,
    ) -> None:
        """The paper has no mini-ImageNet; defaults are those of its other experiments.

        Args:
            backbone: h. In regression it only gives the sizes of h, which reads x and y side by
                side and ends with a linear layer.
            way: N, the same in training and test: one logit per way; in regression, the number of
                outputs.
            aggregate: ``class`` averages within each class, for classification [section 4.3];
                ``all`` over the whole support, for regression [section 2.2]; null for ``all`` on
                the backbone mlp, else ``class``.
            decoder: g's hidden layers, before a linear one [authors' notebook].
            min_context: in regression, the context of a training step has at least so many of the
                `train_shot` points, or all if they are fewer [authors' notebook].
            min_sd: in regression, a lower bound of predicted deviations [authors' notebook].
            batch_norm: ``running`` tests with the statistics of training.
            outer_lr: of Adam [authors' notebook].
        """
        if aggregate is None:
            aggregate = "all" if isinstance(backbone, MLP) else "class"
        if aggregate not in ("class", "all"):
            raise UsageError(f"aggregate {aggregate}: choose from class, all")
        if min_context < 1:
            raise UsageError(f"min_context {min_context}: expected a number of at least 1")
        if not 0 < min_sd < 1:
            raise UsageError(f"min_sd {min_sd}: expected a number between 0 and 1")
        net: nn.Module = backbone
        # Sizes: what g gets of a query, r, and what g returns.
        if aggregate == "class":
            query_size = features_of(backbone)
            r_size = way * query_size
            outputs = way
        elif isinstance(backbone, MLP):
            query_size = backbone.inputs
            r_size = backbone.features
            outputs = 2 * way
            net = Classifier(MLP(query_size + way, r_size, len(backbone.layers)), r_size)
        else:
            raise UsageError("aggregate all: h is fully connected, so use backbone=mlp")
        super().__init__(net, way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.g = Classifier(build_backbone(decoder, (query_size + r_size,)), outputs)
        self.aggregate = aggregate
        self.min_context = min_context
        self.min_sd = min_sd
        if aggregate == "all":
            self.embeds_alone = False

    def forward(self, episode: Episode) -> Tensor:
        """g(query, r): logits (T, N*Q, N), in regression the means (T, Q, N)."""
        self.check(episode)
        if self.aggregate == "all":
            return self.distribution(episode)[0]
        z_support, z_query = self.embed(episode)
        r = prototypes(z_support, episode.support.y, self.way).flatten(1)  # (T, N*D)
        return decode(self.g, z_query, r)

    def distribution(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each query's y, (T, Q, N) each; only for regression."""
        self.check(episode)
        r = self.represent(episode.support)
        mean, raw = decode(self.g, episode.query.x.flatten(2), r).chunk(2, dim=-1)
        return mean, self.min_sd + (1 - self.min_sd) * F.softplus(raw)

    def represent(self, context: Examples) -> Tensor:
        """r, the mean over the context of r_i = h(x_i, y_i): (T, D) (eq. 1, 2)."""
        return pointwise(self.net, torch.cat([context.x.flatten(2), context.y], -1)).mean(1)

    def meta_loss(self, episode: Episode) -> Tensor:
        """-log Q of all points given a context of random size (eq. 4), averaged over points."""
        if self.aggregate == "class":
            return super().meta_loss(episode)
        self.check(episode)
        most = episode.support.x.shape[1]
        size = int(torch.randint(min(self.min_context, most), most + 1, ()))
        support, query = episode.support, episode.query
        context = Examples(support.x[:, :size], support.y[:, :size])
        target = Examples(torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1))
        mean, sd = self.distribution(Episode(context, target, self.way))
        return nll(mean, sd, target.y).mean()

    def evaluate(self, episode: Episode) -> tuple[dict[str, Tensor], Tensor]:
        """In regression also ``nll``, in nats per point."""
        if self.aggregate == "class":
            return super().evaluate(episode)
        mean, sd = self.distribution(episode)
        y = episode.query.y
        return {"mse": task_loss(mean, y), "nll": nll(mean, sd, y)}, mean

    def check(self, episode: Episode) -> None:
        """Refuse regression with ``class``, and classification with ``all``."""
        needed = "all" if episode.query.y.is_floating_point() else "class"
        if self.aggregate != needed:
            raise UsageError(f"aggregate {self.aggregate}: these tasks need aggregate={needed}")


def decode(g: nn.Module, x: Tensor, r: Tensor) -> Tensor:
    """phi_j = g(x_j, r): (T, n, D), (T, R) -> (T, n, O) (eq. 3)."""
    return pointwise(g, torch.cat([x, r.unsqueeze(1).expand(-1, x.shape[1], -1)], dim=-1))


def nll(mean: Tensor, sd: Tensor, y: Tensor) -> Tensor:
    """-log of the normal density, summed over outputs, averaged over points: (T, n, N) -> (T,)."""
    return -Normal(mean, sd, validate_args=False).log_prob(y).sum(-1).mean(-1)

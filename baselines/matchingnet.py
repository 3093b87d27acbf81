"""Matching Networks (Vinyals et al., NeurIPS 2016). https://arxiv.org/abs/1606.04080

Departures from the paper:

1. The paper prints no optimiser, learning rate, meta-batch or length of training, nor the number of
   steps of the attention LSTM. Adam at 0.001 is from github oscarknagg/few-shot; the rest is ours.
2. It does not say how the attention LSTM starts. Here h^_0 and c_0 are 0, so h_0 = f'(x) (eq. 4).
3. f' and g' are one network.
4. There is no fine-tuning on the test's support sets (the paper's rows "Fine Tune Y").
5. By default only the support's embeddings are divided by their lengths (`normalise=support`), so
   that a query's length acts as a learned temperature. The paper's formula, a cosine of both sides,
   is `normalise=both`. With features that are not negative its P(y|x,S) is at most e / (e + N - 1)
   at one shot, which is 0.40 for 5 ways. Validation accuracy on Omniglot (5-way 1-shot, 5 queries
   per class in training) after 240 updates of 4 tasks was 92.8 % with `support`, 73.9 with `both`
   and 76.7 with `none`; after 480 updates 95.1 with `support` and 76.0 with `both`. On CIFAR-FS it
   was 36.2 and 39.2 % after 140 and 280 updates with `support`, 32.2 and 33.2 with `both`. (Seed 0,
   one thread: `zoo run "matchingnet[normalise=both]" omniglot --threads 1 --updates 1200
   --validations 5 --val_episodes 200 --train_query 5`; on cifarfs with `--updates 700` and 15
   queries.)
6. `distance=l2` and `temperature` are not in the paper. With `both`, the test on Omniglot (5-way
   1-shot; published 98.1 %) gave 85.0 after 6,000 updates, and 96.4 with `temperature=0.1`
   (results/); the re-implementation oscarknagg/few-shot reports 92.0, and 98.3 with L2.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, register
from zoo.backbone_contract import features_of
from zoo.errors import UsageError
from zoo.methods.embedding import EmbeddingLearner, by_class, squared_distances

MATCHING_DISTANCES = ("cosine", "l2")
NORMALISED = {  # which sides a cosine divides by their lengths -> what tables must say about it
    "both": "",
    "support": "only the support is normalised; the paper's formula has both sides",
    "none": "neither side is normalised; the paper's formula has both",
}


@register("matchingnet")
class MatchingNet(EmbeddingLearner):
    """Classify a query by attention over the support set, where similar examples count more."""

    title = "Matching Networks"
    family = "metric"
    added_later: Mapping[str, Any] = {"normalise": "both"}

    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        fce: bool = False,
        processing_steps: int = 2,
        distance: str = "cosine",
        normalise: str = "support",
        temperature: float | None = None,
        batch_norm: str = "running",
        outer_lr: float = 1e-3,
    ) -> None:
        """Defaults are for mini-ImageNet.

        Args:
            backbone: from images to D features, f' = g'.
            way: N of the test episodes.
            fce: full context embeddings: each embedding sees the whole support set [section 2.1.2].
            processing_steps: K of the attention LSTM, with `fce` [not printed; ours].
            distance: ``cosine``, or ``l2`` for the squared Euclidean one [section 2.1.1].
            normalise: which embeddings a cosine divides by their lengths: ``both``, the paper's
                formula [section 2.1.1]; ``support``; or ``none``, a plain dot product. ``l2`` uses
                embeddings as they are.
            temperature: what similarities are divided by; null for none [section 2.1.1].
            batch_norm: ``running`` tests with the statistics of training, so it is inductive [not
                printed].
            outer_lr: of Adam [not printed; oscarknagg/few-shot].
        """
        if distance not in MATCHING_DISTANCES:
            raise UsageError(f"distance {distance}: choose from {', '.join(MATCHING_DISTANCES)}")
        if normalise not in NORMALISED:
            raise UsageError(f"normalise {normalise}: choose from {', '.join(NORMALISED)}")
        if processing_steps < 1:
            raise UsageError(f"processing_steps {processing_steps}: expected at least 1")
        if temperature is not None and not 0 < temperature < float("inf"):
            raise UsageError(f"temperature {temperature}: expected a number above 0, or null")
        super().__init__(backbone, way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.distance, self.normalise = distance, normalise
        self.remark = NORMALISED[normalise] if distance == "cosine" else ""
        self.temperature = 1.0 if temperature is None else temperature
        features = features_of(backbone)
        self.context = FullContext(features, processing_steps) if fce else None
        self.sequential = fce

    def forward(self, episode: Episode) -> Tensor:
        """log P(y|x,S), the log of the attention summed over each class (eq. 1): (T, N*Q, N).

        Their cross-entropy is the paper's objective, -log P of the true class (eq. 2).
        """
        g, f = self.embed(episode)
        if self.context is not None:
            g, f = self.context(g, f)
        log_a = self.log_attention(f, g)
        return by_class(log_a, episode.support.y, episode.way).logsumexp(-1)

    def log_attention(self, f: Tensor, g: Tensor) -> Tensor:
        """log a(x, x_i), a softmax of similarities over the support set (section 2.1.1).

        f (T, N*Q, D), g (T, N*K, D) -> (T, N*Q, N*K)
        """
        return (self.similarity(f, g) / self.temperature).log_softmax(-1)

    def similarity(self, f: Tensor, g: Tensor) -> Tensor:
        """c(f(x), g(x_i)): f (T, N*Q, D), g (T, N*K, D) -> (T, N*Q, N*K)."""
        if self.distance == "l2":
            return -squared_distances(f, g)
        if self.normalise == "both":
            f = F.normalize(f, dim=-1)
        if self.normalise != "none":
            g = F.normalize(g, dim=-1)
        return f @ g.mT


class FullContext(nn.Module):
    """Embeds each image in the context of the whole support set (section 2.1.2, appendix A)."""

    def __init__(self, features: int, steps: int) -> None:
        super().__init__()
        self.along = nn.LSTM(features, features, batch_first=True, bidirectional=True)
        # The paper's state is [h, r]. Here r is part of the input, which gives the same gates.
        self.attending = nn.LSTMCell(2 * features, features)
        self.steps = steps

    def forward(self, z_support: Tensor, z_query: Tensor) -> tuple[Tensor, Tensor]:
        """g' (T, N*K, D), f' (T, N*Q, D) -> g, f of the same shapes."""
        g = self.support(z_support)
        return g, self.query(z_query, g)

    def support(self, z: Tensor) -> Tensor:
        """g(x_i, S): both directions of an LSTM along the support set, and g' (appendix A.2)."""
        forward, backward = self.along(z)[0].chunk(2, dim=-1)
        return forward + backward + z

    def query(self, z: Tensor, g: Tensor) -> Tensor:
        """f(x, S) = attLSTM(f'(x), g(S), K) (eqs. 3 and 4): z (T, N*Q, D) -> (T, N*Q, D)."""
        h, c = z, torch.zeros_like(z).flatten(0, 1)
        for _ in range(self.steps):
            inputs = torch.cat([z, read(h, g)], dim=-1)
            h_hat, c = self.attending(inputs.flatten(0, 1), (h.flatten(0, 1), c))
            h = h_hat.unflatten(0, z.shape[:2]) + z
        return h


def read(h: Tensor, g: Tensor) -> Tensor:
    """r, the support embeddings weighted by softmax(h^T g) (eqs. 5 and 6).

    h (T, N*Q, D), g (T, N*K, D) -> (T, N*Q, D)
    """
    return (h @ g.mT).softmax(-1) @ g

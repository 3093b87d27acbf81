"""Baseline, Baseline++ (Chen, Liu, Kira, Wang & Huang, ICLR 2019). https://arxiv.org/abs/1904.04232

Departures from the paper:

1. Pre-training is the zoo's (`zoo/runs/pretraining.py`), by SGD; the authors use Adam for 400
   epochs. Both heads start from the same encoder, pre-trained with a linear classifier; Baseline++
   as printed is `finetune[head=cosine,pretrain_head=cosine]`.
2. Each step uses the whole support; theirs use 4 random images. We leave out their momentum: it is
   dampened by the same factor, so it averages gradients over steps, which the whole support does
   anyway. We also leave out their weight decay of 0.001, which in 100 steps shrinks the head by a
   thousandth.
3. A linear head starts from zero, a cosine head from the directions of the class means; theirs
   start at random. So the same support always gives the same head, in any order of its images and
   labels.
4. Cosines are multiplied by 10; theirs by 2, and by 10 in pre-training on more than 200 classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, Examples, InnerOptimizer, Params, adapt, call, register
from zoo.errors import UsageError
from zoo.losses import task_cross_entropy
from zoo.methods.embedding import EmbeddingLearner, prototypes
from zoo.methods.preconditioners import Preconditioner
from zoo.networks.layers import HEADS


class FromMeans(Preconditioner):
    """Starts the inner loop from the directions of the class means."""

    def __init__(self, support: Examples, way: int) -> None:
        """Keep the support, of features x (T, N*K, D), and N."""
        super().__init__()
        self.support, self.way = support, way

    def start(self, theta: Params) -> Params:
        """A weight vector for each class, (T, N, D)."""
        return {"weight": F.normalize(prototypes(*self.support, self.way), dim=-1)}


@register("finetune")
class FineTune(EmbeddingLearner):
    """Fit a new classifier to each support set, on the features of a pre-trained encoder."""

    title = "Fine-tuned head"
    family = "reference"
    gradient_based = True

    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        head: str = "linear",
        head_lr: float = 0.01,
        head_steps: int = 100,
        batch_norm: str = "running",
    ) -> None:
        """Nothing is learned in episodes; the setting `pretrained_from` says what comes before.

        Args:
            backbone: from images to D features.
            way: N of the test episodes.
            head: linear (Baseline) or cosine (Baseline++) [section 3.2].
            head_lr: of the steps on the head [authors' code, remembered].
            head_steps: gradient steps on a support set [section 4.1].
            batch_norm: ``running`` uses the statistics of the pre-training [authors' code,
                remembered].
        """
        if head not in HEADS:
            raise UsageError(f"--head {head}: choose from {', '.join(HEADS)}")
        super().__init__(backbone.requires_grad_(False), way, batch_norm=batch_norm)
        self.head, self.head_lr, self.head_steps = head, head_lr, head_steps

    def forward(self, episode: Episode) -> Tensor:
        """Embed, fit a head on the support, classify the queries: logits (T, N*Q, N)."""
        z_support, z_query = self.embed(episode)
        head, theta = self.fit(Examples(z_support, episode.support.y), episode.way)
        return call(head, theta, z_query)

    def fit(self, support: Examples, way: int) -> tuple[nn.Module, Params]:
        """Fit a head to each support set, by gradient descent on its cross-entropy.

        Args:
            support: features x (T, N*K, D), y (T, N*K).
            way: N.

        Returns:
            The head, and each task's weights for it, with a leading T.
        """
        with torch.inference_mode(False):  # otherwise its weights could have no gradient
            head = HEADS[self.head](support.x.shape[-1], way).to(support.x)
            for p in head.parameters():
                nn.init.zeros_(p)
        start = FromMeans(support, way) if self.head == "cosine" else Preconditioner()
        optimizer = InnerOptimizer(self.head_lr, start)
        with torch.no_grad():  # there is no outer loop
            theta = adapt(head, support, task_cross_entropy, optimizer, steps=self.head_steps)
        return head, theta

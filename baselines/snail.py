"""SNAIL (Mishra, Rohaninejad, Chen & Abbeel, ICLR 2018). https://arxiv.org/abs/1707.03141

Departures from the paper:

1. Dilations of a TC block are 1, 2, 4, ...; the paper prints 2, 4, 8, ... (`first_dilation=2`),
   which reach even lags only.
2. The queries of an episode share its support. Each is the last step of a sequence of its own, and
   what depends on the support alone is computed once. The paper has one query per episode.
3. One number of shots is drawn for all tasks of an update, and that many of each class's
   `train_shot` examples are kept. The test may have any number of shots up to `max_shot`.
4. Not printed, so ours: learning rate, tasks per update, length of training.
5. "Dropout 0.9" in the embedding of mini-ImageNet is taken to be the share that is kept, and its
   pooling rounds up: 84 pixels must become the 6 that it averages (backbone `resnet_snail`).
6. It is not known what the paper's ablations put in the place of the blocks that they leave out.
   Here `tc=false` and `attention=false` put nothing there.
7. Regression is ours: y takes the place of the label, and the last step predicts it.

On Omniglot 5-way 1-shot, accuracy is 93.6 % (printed: 99.07) after 86,400 tasks, and still rises.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, register
from zoo.backbone_contract import features_of
from zoo.episode import fewer_shots, shots_of
from zoo.errors import UsageError
from zoo.methods.embedding import EmbeddingLearner
from zoo.networks.layers import Linear
from zoo.networks.mlp import MLP


class DenseBlock(nn.Module):
    """A gated causal convolution of two taps, concatenated to its input."""

    def __init__(self, channels: int, dilation: int, filters: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.channels = channels + filters  # of the output
        # The two convolutions, xf and xg, at once; the inputs are step t - dilation, then step t.
        self.taps = nn.Linear(2 * channels, 2 * filters)

    def forward(self, x: Tensor, past: int) -> Tensor:
        """cat[x, tanh(xf) * sigmoid(xg)]: (T, P + Q, C) -> (T, P + Q, C + filters)."""
        before, now = self.taps.weight.chunk(2, dim=1)
        # Row t comes from step t - dilation, or from zeros if that is before the start.
        lagged = F.linear(F.pad(x[:, :past], (0, 0, self.dilation, 0))[:, : past + 1], before)
        at = positions(x.shape[1], past, x.device)
        xf, xg = (lagged[:, at] + F.linear(x, now, self.taps.bias)).chunk(2, dim=-1)
        return torch.cat([x, xf.tanh() * xg.sigmoid()], dim=-1)


class TCBlock(nn.Module):
    """Dense blocks, each with twice the dilation of the last, to reach the whole sequence."""

    def __init__(self, channels: int, length: int, filters: int, first_dilation: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for i in range((length - 1).bit_length()):  # ceil(log2(length))
            self.blocks.append(DenseBlock(channels, first_dilation * 2**i, filters))
            channels += filters
        self.channels = channels

    def forward(self, x: Tensor, past: int) -> Tensor:
        """(T, P + Q, C) -> (T, P + Q, C + blocks * filters)."""
        for block in self.blocks:
            x = block(x, past)
        return x


class Attention(nn.Module):
    """Softmax attention to the steps so far, concatenated to its input."""

    def __init__(self, channels: int, keys: int, values: int) -> None:
        super().__init__()
        self.sizes = [keys, keys, values]
        self.channels = channels + values
        self.affine = nn.Linear(channels, sum(self.sizes))  # queries, keys and values at once

    def forward(self, x: Tensor, past: int) -> Tensor:
        """cat[x, softmax(q k^T / sqrt(K)) v]: (T, P + Q, C) -> (T, P + Q, C + values)."""
        queries, keys, values = self.affine(x).split(self.sizes, dim=-1)
        logits = queries @ keys.mT / keys.shape[-1] ** 0.5
        unseen = ~visible(x.shape[1], past, x.device)
        return torch.cat([x, logits.masked_fill(unseen, -torch.inf).softmax(-1) @ values], dim=-1)


def positions(rows: int, past: int, device: torch.device) -> Tensor:
    """The step of each of P + Q rows in its sequence: 0, 1, ..., P - 1, then P for each query."""
    return torch.arange(rows, device=device).clamp(max=past)


def visible(rows: int, past: int, device: torch.device) -> Tensor:
    """Which rows each row may look at, (P + Q, P + Q): earlier ones of the support, and itself."""
    at = positions(rows, past, device)
    return (at < at.unsqueeze(1)) | torch.eye(rows, dtype=torch.bool, device=device)


@register("snail")
class SNAIL(EmbeddingLearner):
    """Read the labelled support set and then the query as one sequence, by attention over time."""

    title = "SNAIL"
    family = "memory"
    sequential = True
    fixed_way = True
    way_equivariant = False
    regression = True

    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        max_shot: int | None = None,
        mixed_shots: bool = True,
        embedding: int | None = None,
        tc: bool = True,
        attention: bool = True,
        first_dilation: int = 1,
        batch_norm: str = "running",
        outer_lr: float = 1e-3,
    ) -> None:
        """Defaults are for mini-ImageNet.

        Args:
            backbone: from images to D features.
            way: N, the same in training and test; in regression the number of outputs.
            max_shot: the most shots that an episode may have; null for 5 [section 5.1], or on the
                backbone mlp 25 points [ours].
            mixed_shots: train on 1 to `train_shot` shots, drawn for each update [section 5.1].
            embedding: features of a linear layer behind the backbone, 64 for Omniglot; null for no
                such layer [section 5.1].
            tc: whether there are TC blocks [Appendix B also tests it without].
            attention: whether there are attention blocks [Appendix B also tests it without].
            first_dilation: of each TC block, 1 or 2 [section 3: 2].
            batch_norm: ``running`` tests with the statistics of training [not printed].
            outer_lr: of Adam [not printed].
        """
        regression = isinstance(backbone, MLP)
        if max_shot is None:
            max_shot = 25 if regression else 5
        if max_shot < 1:
            raise UsageError(f"max_shot {max_shot}: expected a number of at least 1")
        if embedding is not None and embedding < 1:
            raise UsageError(f"embedding {embedding}: expected a number of at least 1, or null")
        if first_dilation not in (1, 2):
            raise UsageError(f"first_dilation {first_dilation}: choose from 1, 2")
        if not (tc or attention):
            raise UsageError("tc=false with attention=false: no block is left; leave out one")
        features = features_of(backbone)
        if embedding is not None:
            backbone = nn.Sequential(backbone, Linear(features, embedding))
        super().__init__(backbone, way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.max_shot, self.mixed_shots = max_shot, mixed_shots
        # With mixed shots, the same random number of shots is drawn for all tasks.
        self.joint_tasks = self.joint_tasks or mixed_shots
        channels = (embedding or features) + way
        length = (1 if regression else way) * max_shot + 1
        self.blocks = nn.ModuleList()
        for keys, values in ((64, 32), (256, 128), (512, 256)):
            if attention:
                self.blocks.append(Attention(channels, keys, values))
                channels += values
            if tc and keys < 512:
                block = TCBlock(channels, length, 128, first_dilation)
                self.blocks.append(block)
                channels = block.channels
        self.out = nn.Linear(channels, way)  # the 1x1 convolution

    def forward(self, episode: Episode) -> Tensor:
        """The output of each sequence's last step: logits (T, N*Q, N), in regression numbers."""
        self.check_episodes(self.way, shots_of(episode.support, self.way), 0)
        x, past = self.sequences(episode), episode.support.x.shape[1]
        for block in self.blocks:
            x = block(x, past)
        return self.out(x[:, past:])

    def check_episodes(self, way: int, shot: int, query: int) -> None:
        """Refuse sequences longer than what the TC blocks reach."""
        if shot > self.max_shot:
            raise UsageError(
                f"--shot or --train_shot {shot}: SNAIL's sequences have room for {self.max_shot} "
                f"shots; set --max_shot to {shot}, or lower it"
            )

    def meta_loss(self, episode: Episode) -> Tensor:
        """The loss of the last step, at a random number of shots."""
        if self.mixed_shots:
            shot = int(torch.randint(1, shots_of(episode.support, self.way) + 1, ()))
            episode = episode._replace(support=fewer_shots(episode.support, shot, self.way))
        return super().meta_loss(episode)

    def sequences(self, episode: Episode) -> Tensor:
        """Features and label of each support example, then of each query with zeros for a label.

        (T, N*K + N*Q, D + N)
        """
        z_support, z_query = self.embed(episode)
        y = episode.support.y
        y = y if y.is_floating_point() else F.one_hot(y, self.way)
        steps = torch.cat([z_support, y.to(z_support)], dim=-1)
        return torch.cat([steps, F.pad(z_query, (0, self.way))], dim=1)

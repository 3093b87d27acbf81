"""SNAIL (Mishra, Rohaninejad, Chen & Abbeel, ICLR 2018). https://arxiv.org/abs/1707.03141

Departures from the paper:

1. Dilations of a TC block are 1, 2, 4, ...; printed are 2, 4, 8, ..., which reach even lags only
   (`first_dilation=2`).
2. An episode's queries share their support: each is the last step of a sequence of its own, and
   what is computed of the support is computed once. The paper has one query an episode.
3. One number of shots is drawn for all tasks of an update; of each class's `train_shot` examples
   so many are left. The test's shots may be any up to `max_shot`.
4. Not printed, so ours: learning rate, tasks of an update, length of training.
5. "Dropout 0.9" in mini-ImageNet's embedding is taken for the share that is kept, and its pooling
   rounds up: 84 pixels must become the 6 that it averages (backbone `resnet_snail`).
6. How the ablations fill the place of what they leave out is not known: here `tc=false` and
   `attention=false` leave it out.
7. Regression is ours: y stands where the label does, and the last step predicts it.

On Omniglot 5-way 1-shot it is at 93.6 % (printed: 99.07) after 86,400 tasks, and still rises.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, register
from zoo.baselines.snail_layers import Attention, TCBlock
from zoo.episode import fewer_shots, shots_of
from zoo.errors import UsageError
from zoo.methods.embedding import EmbeddingLearner
from zoo.networks.backbone import MLP, Linear


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
            max_shot: the most shots of an episode, which sequences have room for; null for 5
                [section 5.1], or on the backbone mlp 25 points [ours].
            mixed_shots: train on 1 to `train_shot` shots, drawn anew each update [section 5.1].
            embedding: features of a linear layer behind the backbone, 64 for Omniglot's; null for
                none [section 5.1].
            tc: whether there are TC blocks [Appendix B has it without].
            attention: whether there are attention blocks [Appendix B has it without].
            first_dilation: of each TC block, 1 or 2 [section 3: 2].
            batch_norm: ``running`` tests with the statistics of training [not printed].
            outer_lr: of Adam [not printed].
        """
        regression = isinstance(backbone, MLP)
        max_shot = (25 if regression else 5) if max_shot is None else max_shot
        if max_shot < 1:
            raise UsageError(f"max_shot {max_shot}: expected a number of at least 1")
        if embedding is not None and embedding < 1:
            raise UsageError(f"embedding {embedding}: expected a number of at least 1, or null")
        if first_dilation not in (1, 2):
            raise UsageError(f"first_dilation {first_dilation}: choose from 1, 2")
        if not (tc or attention):
            raise UsageError("tc=false with attention=false: no block is left; leave out one")
        features: int = backbone.features  # type: ignore[assignment]
        if embedding is not None:
            backbone = nn.Sequential(backbone, Linear(features, embedding))
        super().__init__(backbone, way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.max_shot, self.mixed_shots = max_shot, mixed_shots
        self.joint_tasks |= mixed_shots  # one number of shots
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
        """Logits (T, N*Q, N), in regression predictions, of the last step of each sequence."""
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
        """Features and label of each support step, of each query zeros for a label.

        (T, N*K + N*Q, D + N), as `zoo.baselines.snail_layers` has it.
        """
        z_support, z_query = self.embed(episode)
        y = episode.support.y
        y = y if y.is_floating_point() else F.one_hot(y, self.way)
        steps = torch.cat([z_support, y.to(z_support)], dim=-1)
        return torch.cat([steps, F.pad(z_query, (0, self.way))], dim=1)

"""Relation scores, how well a query fits a class, learned before meta-training.

After Sung et al. (CVPR 2018), as NPBML has them (arXiv 2406.07983).
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.baselines.npbml_network import LastBlock, Trunk, checked_blocks, run_own_weights
from zoo.batch_norm import set_batch_norm
from zoo.episode import Episode
from zoo.errors import UsageError
from zoo.methods.embedding import prototypes
from zoo.networks.layers import Linear, pointwise
from zoo.networks.resnet12 import ResidualBlock
from zoo.stage import Stage, seeded


class RelationHead(nn.Module):
    """How well each query fits each class, in [0, 1], from their features.

    It reads the products and the absolute differences of the features. From features side by side,
    which is how a Relation Network reads its maps, so small a head learns little.
    """

    def __init__(self, features: int, units: int = 64) -> None:
        """With fresh weights, for D features."""
        super().__init__()
        self.hidden, self.out = Linear(2 * features, units), Linear(units, 1)

    def forward(self, query: Tensor, classes: Tensor) -> Tensor:
        """Features of queries (T, n, D), mean support features (T, N, D) -> (T, n, N)."""
        q, c = query.unsqueeze(2), classes.unsqueeze(1)
        compared = torch.cat([q * c, (q - c).abs()], -1)
        return self.out(F.relu(self.hidden(compared))).sigmoid().squeeze(-1)


class RelationNetwork(nn.Module):
    """An encoder of its own, and residual blocks that compare its maps, as in NPBML's code.

    Two departures: batch norm by running statistics, where theirs uses those of the batch; and
    weights that start as PyTorch's do, where theirs come from N(0, 0.01^2).
    """

    WIDTHS = (64, 128, 256, 512)

    def __init__(self, channels: int) -> None:
        """With fresh weights, for images of so many channels."""
        super().__init__()
        *_, last = self.WIDTHS
        inputs = (channels, *self.WIDTHS[:-1])
        pools = (True, True, False, False)
        blocks = zip(inputs, self.WIDTHS, pools, strict=True)
        self.encoder = nn.Sequential(*(ResidualBlock(i, o, pool) for i, o, pool in blocks))
        self.compare = nn.Sequential(ResidualBlock(2 * last, last), ResidualBlock(last, last))
        self.out = Linear(last, 1)
        set_batch_norm(self, "running")

    def forward(self, x: Tensor, y: Tensor, way: int) -> Tensor:
        """Images, support before queries (T, n, *image), y (T, N*K) -> (T, N*Q, N)."""
        z, rows = pointwise(self.encoder, x), y.shape[1]
        members = F.one_hot(y, way).to(z)
        classes = torch.einsum("tsn,tschw->tnchw", members, z[:, :rows])  # summed, as printed
        shape = (*x.shape[:1], x.shape[1] - rows, way, *z.shape[2:])
        pairs = torch.cat([z[:, rows:, None].expand(shape), classes[:, None].expand(shape)], 3)
        maps = self.compare(pairs.flatten(0, 2)).mean((2, 3))
        return self.out(maps).sigmoid().view(pairs.shape[:3])


class Relations(nn.Module):
    """What a learner reads relation scores from. It is trained in a stage, and then frozen."""

    def __init__(self, kind: str, backbone: nn.Module) -> None:
        """With fresh weights.

        Args:
            kind: ``head``, a small one on the features of a copy of the backbone, or ``network``, a
                Relation Network.
            backbone: the learner's, before anything is added to it.

        Raises:
            UsageError: there is no such kind, or the backbone does not consist of blocks.
        """
        super().__init__()
        backbone = checked_blocks(backbone)
        if kind not in ("head", "network"):
            raise UsageError(f"relation: no {kind!r}: choose from head, network")
        first_conv, _ = backbone.layers(0)[0]
        self.kind = kind
        self.channels = first_conv.weight.shape[1]
        self.encoder = copy.deepcopy(backbone) if kind == "head" else None
        self.net = self.fresh()
        self.requires_grad_(False)

    @property
    def backbone_copies(self) -> tuple[nn.Module, ...]:
        """Copies of the backbone, which must start from its pre-trained weights too."""
        return () if self.encoder is None else (self.encoder,)

    def fresh(self) -> nn.Module:
        """The network that learns, with new weights."""
        if self.encoder is None:
            return RelationNetwork(self.channels)
        return RelationHead(self.encoder.widths[-1])

    def train(self, mode: bool = True) -> "Relations":
        """Stay in evaluation mode: what the stage trains is another network, from `fresh`."""
        return super().train(False)

    def forward(self, x: Tensor, y: Tensor, way: int, maps: Tensor | None = None) -> Tensor:
        """Images, support before queries (T, n, *image), y (T, N*K) -> (T, N*Q, N).

        `maps` are the maps of x by the encoder's trunk, if they have been computed already.
        """
        return self.scores(self.net, x, y, way, maps)

    def scores(
        self, net: nn.Module, x: Tensor, y: Tensor, way: int, maps: Tensor | None = None
    ) -> Tensor:
        """As `forward`, by another network that `fresh` made."""
        if self.encoder is None:
            return net(x, y, way)
        rows = y.shape[1]
        maps = run_own_weights(Trunk(self.encoder), x, rows) if maps is None else maps
        z = run_own_weights(LastBlock(self.encoder), maps, rows)
        return net(z[:, rows:], prototypes(z[:, :rows], y, way))


class RelationStage(Stage):
    """Learn scores of 1 for a query's class and 0 for the others: Adam on squared errors."""

    name = "relation"
    batches = "episodes"

    def __init__(self, relations: Relations, way: int, shot: int, updates: int) -> None:
        """Train what `relations` needs.

        Args:
            relations: takes the trained weights.
            way: N of the training episodes.
            shot: K of the training episodes.
            updates: how many, each on one episode.
        """
        settings: dict[str, Any] = {
            "kind": relations.kind,
            "updates": updates,
            "lr": 1e-3,
            "way": way,
            "shot": shot,
            "meta_batch": 1,
            "validations": 5,
            "val_episodes": 100,
            "seed": 0,
        }
        with seeded(settings["seed"]):
            net = relations.fresh()
        super().__init__(net, relations.net, settings=settings)
        self.relations = relations
        self.builds_on_earlier = relations.encoder is not None

    def scores(self, episode: Episode) -> Tensor:
        """Relation scores of an episode, (T, N*Q, N)."""
        x = torch.cat([episode.support.x, episode.query.x], 1)
        return self.relations.scores(self.net, x, episode.support.y, episode.way)

    def training_step(self, batch: Episode, batch_idx: int) -> Tensor:
        """The mean squared error of the scores."""
        scores = self.scores(batch)
        loss = F.mse_loss(scores, F.one_hot(batch.query.y, batch.way).to(scores))
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=batch.tasks)
        return loss

    def validation_step(self, batch: Episode, batch_idx: int) -> Tensor:
        """The accuracy of taking the highest score, (T,)."""
        accuracy = (self.scores(batch).argmax(-1) == batch.query.y).float().mean(-1)
        self.log("val/accuracy", accuracy.mean(), prog_bar=True, batch_size=batch.tasks)
        return accuracy

    def configure_optimizers(self) -> Any:
        """Adam, on the network that learns."""
        return torch.optim.Adam(self.net.parameters(), lr=self.settings["lr"])

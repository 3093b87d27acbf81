"""A network in two: blocks that are computed once an episode, and layers that adapt."""

from collections.abc import Collection

from torch import Tensor, nn

from zoo.errors import UsageError
from zoo.methods.inner_loop import call, expanded_parameters
from zoo.methods.preconditioners import Only, Params
from zoo.networks.backbone import BlockNet, batch_norm_context
from zoo.networks.layers import FiLM, Linear, fold, unfold


class Trunk(nn.Module):
    """All blocks of a backbone but the last."""

    folds = True

    def __init__(self, backbone: BlockNet) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, C, H, W); with per-task parameters all with a T before."""
        return unfold(self.backbone.run(fold(x), None, slice(-1)), x)


class LastBlock(nn.Module):
    """The last block of a backbone, and a mean over pixels."""

    folds = True

    def __init__(self, backbone: BlockNet) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, maps: Tensor) -> Tensor:
        """Of the trunk's maps: (n, C, H, W) -> (n, D); or all with a T before."""
        x = self.backbone.run(fold(maps), None, slice(-1, None))
        return unfold(x.mean((2, 3), keepdim=True), maps).flatten(-3)


def run_own_weights(net: nn.Module, x: Tensor, support_rows: int) -> Tensor:
    """By the network's own weights, each task's batch norm its own: (T, n, ...) -> (T, n, ...)."""
    with batch_norm_context(net, support_rows=support_rows):
        return call(net, expanded_parameters(net, len(x)), x)


def checked_blocks(backbone: nn.Module) -> BlockNet:
    """The backbone, if it is one of blocks of convolutions.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(backbone, BlockNet):
        known = "conv4, conv4_strided and resnet12"
        raise UsageError(f"backbone: needs one of blocks of convolutions, such as {known}")
    return backbone


class AdaptedTail(LastBlock):
    """The last block of a backbone, a mean over pixels, and a head of one row for all ways."""

    def __init__(self, backbone: nn.Module, film: bool, frozen: bool) -> None:
        """The whole backbone stays in it: `Trunk` runs the other blocks.

        Args:
            backbone: of blocks of convolutions.
            film: whether FiLM modulates the last block's maps, each example's by itself.
            frozen: whether only the last block and the head learn.

        Raises:
            UsageError: the backbone is none of blocks.
        """
        backbone = checked_blocks(backbone)
        super().__init__(backbone)
        self.head = Linear(backbone.widths[-1], 1)
        layers = backbone.layers(backbone.depth - 1)
        moving = [conv.weight for conv, _ in layers] + list(self.head.parameters())
        kept = {id(p) for p in moving if p.requires_grad}
        self.adapted = [name for name, p in self.named_parameters() if id(p) in kept]
        self.weights = [name for name in self.adapted if name.endswith("weight")]
        for conv, norm in layers if film else []:
            norm.film = FiLM(conv.weight.shape[1], conv.weight.shape[0])
        if frozen:
            parts = (self.head, *(part for layer in layers for part in layer))
            learned = {id(p) for part in parts for p in part.parameters()}
            for p in self.parameters():
                p.requires_grad_(p.requires_grad and id(p) in learned)

    def forward(self, maps: Tensor) -> Tensor:
        """Of the trunk's maps: (n, C, H, W) -> logits (n, N); or all with a T before."""
        return self.head(super().forward(maps))


class SharedRow(Only):
    """Every way's row of the head starts as the same one, which so has a gradient.

    A head that starts alike for all ways makes a classifier that relabelling only permutes.
    """

    def __init__(self, names: Collection[str], way: int) -> None:
        """The parameters that move, and N."""
        super().__init__(names)
        self.way = way

    def start(self, theta: Params) -> Params:
        """N rows in place of one: head.weight (T, N, D), head.bias (T, N)."""
        rows = {n: p.repeat_interleave(self.way, 1) for n, p in theta.items() if n[:5] == "head."}
        return theta | rows

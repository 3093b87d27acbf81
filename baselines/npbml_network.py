"""A network in two parts: blocks that run once per episode, and the layers that adapt."""

from collections.abc import Collection

from torch import Tensor, nn

from zoo.errors import UsageError
from zoo.methods.inner_loop import call, expanded_parameters
from zoo.methods.preconditioners import Only, Params
from zoo.networks.backbone import BlockNet, batch_norm_context
from zoo.networks.layers import FiLM, Linear, fold, unfold


class Trunk(nn.Module):
    """All blocks of a backbone except the last."""

    folds = True

    def __init__(self, backbone: BlockNet) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, C, H, W); with per-task parameters both have a leading T."""
        return unfold(self.backbone.run(fold(x), None, slice(-1)), x)


class LastBlock(nn.Module):
    """The last block of a backbone, and a mean over pixels."""

    folds = True

    def __init__(self, backbone: BlockNet) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, maps: Tensor) -> Tensor:
        """The trunk's maps (n, C, H, W) -> (n, D); with per-task parameters, with a leading T."""
        x = self.backbone.run(fold(maps), None, slice(-1, None))
        return unfold(x.mean((2, 3), keepdim=True), maps).flatten(-3)


def run_own_weights(net: nn.Module, x: Tensor, support_rows: int) -> Tensor:
    """Run `net` with its own weights, each task with its own batch statistics.

    x (T, n, ...), each task's first `support_rows` rows its support -> (T, n, ...)
    """
    with batch_norm_context(net, support_rows=support_rows):
        return call(net, expanded_parameters(net, len(x)), x)


def checked_blocks(backbone: nn.Module) -> BlockNet:
    """Return the backbone if it consists of blocks of convolutions.

    Raises:
        UsageError: it does not.
    """
    if not isinstance(backbone, BlockNet):
        examples = "conv4, conv4_strided and resnet12"
        raise UsageError(f"backbone: needs one of blocks of convolutions, such as {examples}")
    return backbone


class AdaptedTail(LastBlock):
    """The last block of a backbone, a mean over pixels, and a head of one row for all ways."""

    def __init__(self, backbone: nn.Module, film: bool, frozen: bool) -> None:
        """Hold the whole backbone, of which it runs the last block; `Trunk` runs the others.

        Args:
            backbone: of blocks of convolutions.
            film: whether FiLM modulates the last block's maps, those of each example by itself.
            frozen: whether only the last block and the head learn.

        Raises:
            UsageError: the backbone does not consist of blocks.
        """
        backbone = checked_blocks(backbone)
        super().__init__(backbone)
        self.head = Linear(backbone.widths[-1], 1)
        layers = backbone.layers(backbone.depth - 1)
        adapting = [conv.weight for conv, _ in layers] + list(self.head.parameters())
        adapting_ids = {id(p) for p in adapting if p.requires_grad}
        # Names of the parameters that inner steps move; R reads those of them that are weights.
        self.adapted = [name for name, p in self.named_parameters() if id(p) in adapting_ids]
        self.weights = [name for name in self.adapted if name.endswith("weight")]
        if film:
            for conv, norm in layers:
                norm.film = FiLM(conv.weight.shape[1], conv.weight.shape[0])
        if frozen:
            learning = list(self.head.parameters())
            for conv, norm in layers:
                learning += [*conv.parameters(), *norm.parameters()]
            learning_ids = {id(p) for p in learning}
            for p in self.parameters():
                p.requires_grad_(p.requires_grad and id(p) in learning_ids)

    def forward(self, maps: Tensor) -> Tensor:
        """The trunk's maps (n, C, H, W) -> logits (n, N); per-task, with a leading T."""
        return self.head(super().forward(maps))


class SharedRow(Only):
    """Starts all rows of the head, one per way, from one shared row, which gets their gradients.

    A head that starts alike for all ways makes a learner that is equivariant to relabelling.
    """

    def __init__(self, names: Collection[str], way: int) -> None:
        """Move the parameters `names`; `way` is N."""
        super().__init__(names)
        self.way = way

    def start(self, theta: Params) -> Params:
        """Repeat the head's one row N times: head.weight (T, N, D), head.bias (T, N)."""
        head = {name: p for name, p in theta.items() if name.startswith("head.")}
        return theta | {name: p.repeat_interleave(self.way, 1) for name, p in head.items()}

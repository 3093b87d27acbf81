"""Backbones: networks from an image to D features."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from zoo.batch_norm import BatchNorm
from zoo.errors import UsageError
from zoo.networks.layers import Conv, FixedImages, Linear, fold, unfold
from zoo.registry import backbone_of, backbones
from zoo.variants import parse_variant


class Backbone(nn.Module):
    """A network from images to features, and what is known of it before it runs."""

    features: int  # D
    family: str  # backbone_key of reports/published.csv
    variant: str | None = None  # the text that it was built from, see `build_backbone`
    built_for: tuple[int, ...] = ()  # the shape of one input, where it was built from a text
    folds = False  # whether it also runs with per-task parameters, all tasks at once
    fixed: FixedImages | None = None  # set by `batch_norm_context`

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, D); with per-task parameters (T, n, *image) -> (T, n, D)."""
        fixed = self.fixed if self.fixed is not None and self.fixed.are(x) else None
        maps = self.maps(fixed.pixels if fixed else fold(x), fixed)
        return unfold(maps, x).flatten(-3)

    def maps(self, x: Tensor, fixed: FixedImages | None) -> Tensor:
        """(n, T*C, H, W) -> (n, T*O, H', W'); `fixed` is x where it is known as fixed data."""
        raise NotImplementedError


@contextmanager
def batch_norm_context(
    net: nn.Module,
    *,
    track: bool = True,
    support_rows: int | None = None,
    fixed: FixedImages | None = None,
) -> Iterator[None]:
    """Say what a forward pass inside this block is, to our layers in `net`.

    Args:
        net: any network; layers that are not ours are left alone.
        track: whether running statistics move (not in inner steps).
        support_rows: in batch-norm mode ``support``, how many rows of the batch, the first ones,
            are the support set; None means all.
        fixed: images that enter more than once: what needs computing only once of them is.
    """
    norms = [module for module in net.modules() if isinstance(module, BatchNorm)]
    nets = [module for module in net.modules() if isinstance(module, Backbone)]
    before = [(norm.track, norm.support_rows) for norm in norms]
    for norm in norms:
        norm.track, norm.support_rows = track, support_rows
    outside = [backbone.fixed for backbone in nets]
    for backbone in nets:
        backbone.fixed = fixed
    try:
        yield
    finally:
        for norm, (was_tracking, rows) in zip(norms, before, strict=True):
            norm.track, norm.support_rows = was_tracking, rows
        for backbone, was in zip(nets, outside, strict=True):
            backbone.fixed = was


class BlockNet(Backbone):
    """A network of blocks of convolutions; a learner may run some of them alone."""

    folds = True
    depth = 4
    widths: tuple[int, ...]  # C of each block's output

    def __init__(self) -> None:
        super().__init__()
        self.after = nn.ModuleDict()  # by number, what a learner put behind a block

    def layers(self, number: int) -> list[tuple[Conv, BatchNorm]]:
        """The convolutions of a block, each with its norm."""
        raise NotImplementedError

    def block(self, number: int, x: Tensor, fixed: FixedImages | None) -> Tensor:
        """One block by itself."""
        raise NotImplementedError

    def run(
        self, x: Tensor, fixed: FixedImages | None = None, blocks: slice = slice(None)
    ) -> Tensor:
        """The asked blocks, one upon the other: (n, T*C, H, W) -> (n, T*O, H', W')."""
        for number in range(self.depth)[blocks]:
            x = self.block(number, x, fixed)
            x = self.after[str(number)](x) if str(number) in self.after else x
            fixed = None
        return x


def checked_image_shape(name: str, image: tuple[int, ...], least: int) -> tuple[int, int, int]:
    """(C, H, W), of at least so many pixels a side."""
    if len(image) != 3:
        raise UsageError(f"backbone {name}: needs images, but an input has shape {image}; use mlp")
    if min(image[1:]) < least:
        raise UsageError(f"{name} halves an image four times: {image[1:]} is smaller than 16x16")
    return image


class Classifier(nn.Module):
    """A backbone and a linear head, as learners with one logit a way have it."""

    def __init__(self, backbone: nn.Module, way: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Linear(backbone.features, way)  # type: ignore[arg-type]
        self.folds = getattr(backbone, "folds", False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> logits (n, N); with per-task parameters (T, n, *image) -> (T, n, N)."""
        return self.head(self.backbone(x))


def build_backbone(text: str, image: tuple[int, ...]) -> Backbone:
    """The backbone that a variant text such as ``conv4[channels=32]`` names, for `image`.

    Raises:
        UsageError: there is no such backbone, it has no such option, or is not for such inputs.
    """
    key, options = parse_variant(text)
    build = backbones.get(key)
    known = list(inspect.signature(build).parameters)[1:]
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"backbone {text}: no option {name!r}; it has {known}")
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"backbone {text}: {name} must be a whole number of at least 1")
    net: Backbone = backbone_of(text, image)
    return net

"""Backbones: networks from images to D features, and what a learner may expect of one.

A backbone is any nn.Module that keeps this contract; it need not be a `Backbone`.

- It maps images (n, *image) to features (n, D), floats. For a learner with an inner loop each
  operation in it has a second derivative.
- `features` is D, a whole number. A learner builds its head by it.
- `family`, if it has one, is its key in reports/published.csv: records name its kind by it.
- `folds`, if it is true, says that it also runs with per-task parameters, all with a T in front:
  (T, n, *image) -> (T, n, D). Without it a learner calls it task by task.
- Batch norm may be ours or PyTorch's own, which is turned into ours (`convert_batch_norm`). What
  statistics it takes is the learner's setting `batch_norm`; inner steps never move the running
  ones. Load weights before: the converted layer has no `num_batches_tracked`. Norms that look at
  one image alone (layer, group, instance norm) stay as they are.
- A forward pass changes no other buffer, if the learner has an inner loop (`batch_norm_context`).
- A parameter that is frozen (requires_grad=False) stays as it is, in the inner loop too. One that
  no output depends on has no gradient, and no step moves it.
- Dropout draws anew in every inner step.

`prepare_backbone` holds a registered one to it. Of a network that is handed to a learner directly
the size of images is not known: a learner reads `features_of` it, and `set_batch_norm` converts it.
"""

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zoo.batch_norm import BatchNorm, convert_batch_norm
from zoo.errors import UsageError
from zoo.networks.layers import Conv, FixedImages, Linear, fold, unfold
from zoo.registry import backbone_of, backbones
from zoo.values import shown
from zoo.variants import parse_variant


class Backbone(nn.Module):
    """What our own backbones share; see the contract above."""

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
        net: any network; layers that are not ours are left alone, and must change no buffer where
            running statistics do not move.
        track: whether running statistics move (not in inner steps).
        support_rows: in batch-norm mode ``support``, how many rows of the batch, the first ones,
            are the support set; None means all.
        fixed: images that enter more than once: what needs computing only once of them is.

    Raises:
        UsageError: a buffer changed that was to stay.
    """
    modules = list(net.modules())
    norms = [module for module in modules if isinstance(module, BatchNorm)]
    nets = [module for module in modules if isinstance(module, Backbone)]
    others = [] if track else [m for m in modules if m._buffers and not isinstance(m, BatchNorm)]
    kept = [versions(module) for module in others]
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
    for module, was_kept in zip(others, kept, strict=True):
        if versions(module) != was_kept:
            raise UsageError(
                f"backbone: its layer {type(module).__name__} changes its buffers "
                f"({', '.join(was_kept)}) in inner steps, where only the running statistics of "
                "batch norm are held still: take another layer"
            )


def versions(layer: nn.Module) -> dict[str, tuple[int, int]]:
    """Which tensor each of its buffers is, and how often it was written to."""
    buffers = layer.named_buffers(recurse=False)
    return {name: (id(b), b._version) for name, b in buffers if not b.is_inference()}


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
        self.head = Linear(features_of(backbone), way)
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
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(
                f"backbone {text}: {name} {shown(value)}: expected a whole number of at least 1"
            )
    net: Backbone = backbone_of(text, image)
    prepare_backbone(net, image)
    return net


def features_of(backbone: nn.Module) -> int:
    """D, as the backbone says it.

    Raises:
        UsageError: it does not.
    """
    features = getattr(backbone, "features", None)
    if isinstance(features, bool) or not isinstance(features, int) or features < 1:
        raise UsageError(
            f"backbone {type(backbone).__name__}: its attribute `features` must be how many "
            f"features D it gives an image, a whole number of at least 1; it is {features!r}"
        )
    return features


def prepare_backbone(net: nn.Module, image: tuple[int, ...]) -> None:
    """Make a network's batch norms ours, and hold it to the contract above.

    Two blank images go through a copy of it; random numbers of others stay as they were.

    Raises:
        UsageError: it does not keep the contract; says what to do.
    """
    name = f"backbone {type(net).__name__}"
    if not isinstance(net, nn.Module):
        raise UsageError(f"{name}: expected an nn.Module from images to features")
    features = features_of(net)
    convert_batch_norm(net)
    with torch.no_grad(), torch.random.fork_rng([]):
        z = copy.deepcopy(net)(torch.zeros(2, *image))
    if not isinstance(z, Tensor) or z.shape != (2, features) or not z.is_floating_point():
        got = f"{z.dtype} {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
        raise UsageError(
            f"{name}: of 2 images {image} it gives {got}; expected floats (2, {features}), a row "
            "of `features` numbers for each image: flatten or average what is left of the pixels"
        )

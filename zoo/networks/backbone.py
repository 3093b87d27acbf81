"""Backbones: networks from images to D features, and what a learner may expect of one.

A backbone is any nn.Module that keeps this contract; it need not be a `Backbone`.

- It maps images (n, *image) to float features (n, D). For a learner with an inner loop, every
  operation in it must have a second derivative.
- `features` is D, a whole number, which the learner's head is built for.
- `family`, if it has one, is its key in reports/published.csv, and records name it so.
- `folds`, if true, says that it also runs with per-task parameters, each with a leading T:
  (T, n, *image) -> (T, n, D). Otherwise a learner calls it task by task.
- Batch norm may be ours or PyTorch's own, which is converted to ours (`convert_batch_norm`). The
  learner's setting `batch_norm` says which statistics it uses; inner steps never move the running
  ones. Load weights before that: a converted layer has no `num_batches_tracked`. Norms that look
  at one image alone (layer, group, instance norm) stay as they are.
- If the learner has an inner loop, a forward pass changes no other buffer (`batch_norm_context`).
- A frozen parameter (requires_grad=False) stays as it is, in the inner loop too. A parameter that
  no output depends on has no gradient, and no step moves it.
- Dropout draws a new mask in every inner step.
- It leaves the images that it is given as they are: no operation on them is in place.

`prepare_backbone` checks a registered backbone. A network that is given to a learner directly is
checked when the learner sees its first images, whose size is not known before.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from zoo.backbone_contract import check_features, check_initialised, features_of
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
    variant: str | None = None  # the text that `build_backbone` built it from
    built_for: tuple[int, ...] = ()  # the image shape that `build_backbone` built it for
    folds = False  # whether it also runs with per-task parameters, all tasks at once
    fixed: FixedImages | None = None  # set by `batch_norm_context`

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> (n, D); with per-task parameters (T, n, *image) -> (T, n, D)."""
        fixed = self.fixed if self.fixed is not None and self.fixed.matches(x) else None
        maps = self.maps(fixed.pixels if fixed else fold(x), fixed)
        return unfold(maps, x).flatten(-3)

    def maps(self, x: Tensor, fixed: FixedImages | None) -> Tensor:
        """(n, T*C, H, W) -> (n, T*O, H', W'); `fixed` is given if x is its `pixels`."""
        raise NotImplementedError


@contextmanager
def batch_norm_context(
    net: nn.Module,
    *,
    track: bool = True,
    support_rows: int | None = None,
    fixed: FixedImages | None = None,
) -> Iterator[None]:
    """Tell our layers in `net` how to run the forward passes inside this block.

    Args:
        net: any network. Layers that are not ours run as usual; without `track` they must change no
            buffer.
        track: whether running statistics move (not in inner steps).
        support_rows: in batch-norm mode ``support``, how many rows at the start of the batch are
            the support set; None means all.
        fixed: images that enter the network in several passes, which reuse results about them.

    Raises:
        UsageError: a layer that is not ours changed a buffer without `track`.
    """
    modules = list(net.modules())
    norms = [module for module in modules if isinstance(module, BatchNorm)]
    backbones_inside = [module for module in modules if isinstance(module, Backbone)]
    watched = [] if track else [m for m in modules if m._buffers and not isinstance(m, BatchNorm)]
    versions_before = [buffer_versions(module) for module in watched]
    norms_before = [(norm.track, norm.support_rows) for norm in norms]
    fixed_before = [backbone.fixed for backbone in backbones_inside]
    for norm in norms:
        norm.track, norm.support_rows = track, support_rows
    for backbone in backbones_inside:
        backbone.fixed = fixed
    try:
        yield
    finally:
        for norm, (track_before, rows_before) in zip(norms, norms_before, strict=True):
            norm.track, norm.support_rows = track_before, rows_before
        for backbone, images in zip(backbones_inside, fixed_before, strict=True):
            backbone.fixed = images
    for module, before in zip(watched, versions_before, strict=True):
        if buffer_versions(module) != before:
            raise UsageError(
                f"backbone: its layer {type(module).__name__} changes its buffers "
                f"({', '.join(before)}) in inner steps, where only the running statistics of "
                "batch norm are held still: take another layer"
            )


def buffer_versions(layer: nn.Module) -> dict[str, tuple[int, int]]:
    """For each buffer, which tensor it is and how often it was written to."""
    buffers = layer.named_buffers(recurse=False)
    return {name: (id(b), b._version) for name, b in buffers if not b.is_inference()}


class BlockNet(Backbone):
    """A network of blocks of convolutions; a learner may run only some of them."""

    folds = True
    depth = 4  # how many blocks
    widths: tuple[int, ...]  # channels of each block's output

    def __init__(self) -> None:
        super().__init__()
        self.after = nn.ModuleDict()  # block number -> a module that a learner put behind it

    def layers(self, number: int) -> list[tuple[Conv, BatchNorm]]:
        """The convolutions of block `number`, each with its norm."""
        raise NotImplementedError

    def block(self, number: int, x: Tensor, fixed: FixedImages | None) -> Tensor:
        """Run block `number` alone."""
        raise NotImplementedError

    def run(
        self, x: Tensor, fixed: FixedImages | None = None, blocks: slice = slice(None)
    ) -> Tensor:
        """Run some blocks, one after the other: (n, T*C, H, W) -> (n, T*O, H', W')."""
        for number in range(self.depth)[blocks]:
            x = self.block(number, x, fixed)
            if str(number) in self.after:
                x = self.after[str(number)](x)
            fixed = None  # only the first block sees the images
        return x


def checked_image_shape(name: str, image: tuple[int, ...], least: int) -> tuple[int, int, int]:
    """The shape (C, H, W) of an image.

    Raises:
        UsageError: it is no image, or has fewer than `least` pixels a side.
    """
    if len(image) != 3:
        raise UsageError(f"backbone {name}: needs images, but an input has shape {image}; use mlp")
    if min(image[1:]) < least:
        raise UsageError(f"{name} halves an image four times: {image[1:]} is smaller than 16x16")
    return image


class Classifier(nn.Module):
    """A backbone and a linear head with one logit per way."""

    def __init__(self, backbone: nn.Module, way: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Linear(features_of(backbone), way)
        self.folds = getattr(backbone, "folds", False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *image) -> logits (n, N); with per-task parameters (T, n, *image) -> (T, n, N)."""
        return self.head(self.backbone(x))


def build_backbone(text: str, image: tuple[int, ...]) -> Backbone:
    """Build the backbone that a variant such as ``conv4[channels=32]`` names.

    Args:
        text: the variant.
        image: the shape of one input.

    Raises:
        UsageError: there is no such backbone, it has no such option, or is not for such inputs.
    """
    key, options = parse_variant(text)
    build = backbones.get(key)
    option_names = list(inspect.signature(build).parameters)[1:]
    for name, value in options.items():
        if name not in option_names:
            raise UsageError(f"backbone {text}: no option {name!r}; it has {option_names}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(
                f"backbone {text}: {name} {shown(value)}: expected a whole number of at least 1"
            )
    net: Backbone = backbone_of(text, image)
    prepare_backbone(net, image)
    return net


def prepare_backbone(net: nn.Module, image: tuple[int, ...]) -> None:
    """Convert a network's batch norms to ours, and check it against the contract above.

    A copy of it is run on two images. The state of torch's random numbers stays as it is.

    Raises:
        UsageError: it breaks the contract; says what to do.
    """
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"backbone {type(net).__name__}: expected an nn.Module from images to features"
        )
    check_initialised(net)
    features_of(net)
    convert_batch_norm(net)
    check_features(net, image)

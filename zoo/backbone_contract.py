"""What every learner expects of a backbone, checked; `zoo.networks.backbone` says it in words."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from zoo.errors import UsageError


def features_of(backbone: nn.Module) -> int:
    """D, the backbone's attribute `features`.

    Raises:
        UsageError: it has none, or no whole number of at least 1.
    """
    features = getattr(backbone, "features", None)
    if isinstance(features, bool) or not isinstance(features, int) or features < 1:
        raise UsageError(
            f"backbone {type(backbone).__name__}: its attribute `features` must be how many "
            f"features D it gives an image, a whole number of at least 1; it is {features!r}"
        )
    return features


def check_initialised(backbone: nn.Module) -> None:
    """Refuse a network with lazy layers that have no weights yet.

    Raises:
        UsageError: it has such layers.
    """
    if any(map(is_lazy, (*backbone.parameters(), *backbone.buffers()))):
        raise UsageError(
            f"backbone {type(backbone).__name__}: it has lazy layers, whose weights have no shape "
            "yet: call it once on images of the right size, backbone(torch.zeros(2, C, H, W))"
        )


def check_features(backbone: nn.Module, image: tuple[int, ...]) -> None:
    """Run a copy of a network on two grey images, and refuse it if it breaks the contract.

    The state of torch's random numbers stays as it is.

    Args:
        backbone: from images (n, *image) to features (n, D).
        image: the shape of one image.

    Raises:
        UsageError: its features have another shape or type, or it changes the images.
    """
    name, features = f"backbone {type(backbone).__name__}", features_of(backbone)
    weight = next(backbone.parameters(), torch.zeros(()))
    x = torch.full((2, *image), 0.5, dtype=weight.dtype, device=weight.device)
    with torch.no_grad(), torch.random.fork_rng([]):
        try:
            z = copy.deepcopy(backbone)(x)
        except (RuntimeError, ValueError, IndexError) as error:
            why = " ".join(str(error).split())
            raise UsageError(f"{name}: cannot compute on 2 images {image}: {why}") from None
    if not isinstance(z, Tensor) or z.shape != (2, features) or not z.is_floating_point():
        got = f"{z.dtype} {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
        raise UsageError(
            f"{name}: of 2 images {image} it gives {got}; expected floats (2, {features}), a row "
            "of `features` numbers for each image: flatten or average what is left of the pixels"
        )
    check_unchanged(backbone, x, 0)


def check_unchanged(network: nn.Module, x: Tensor, version: int) -> None:
    """Refuse a network that has changed the images it was given.

    Args:
        network: the network.
        x: the images.
        version: PyTorch's count of changes of x before the network ran.

    Raises:
        UsageError: the count is another one now.
    """
    if x._version != version:
        raise UsageError(
            f"{type(network).__name__}: the network changes the images that it is given, by an "
            "operation in place such as x.sub_() or x[...] = 0. They are used more than once: "
            "write x = x - ..., or begin with x = x.clone()"
        )

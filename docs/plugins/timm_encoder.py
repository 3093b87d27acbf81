"""A frozen encoder of timm as a backbone: reference rows beside learners that were meta-trained.

    python -m zoo table miniimagenet --plugin docs/plugins/timm_encoder.py --learners \
      "pretrained[backbone=timm_resnet18,pretrained_from=null]
      finetune[backbone=timm_resnet18,pretrained_from=null]"

`pretrained` takes the nearest class mean of its features, `finetune` fits a linear head on them;
both keep the encoder as it is. `timm_resnet18` has the weights that timm fetches, which have seen
ImageNet's labels, test classes of mini-ImageNet included: such a row is a reference, no few-shot
result. `timm_resnet18_random` has random weights of the run's seed.

Images come as the benchmark normalises them, not by ImageNet's own mean and deviation; grey ones
are given three equal channels.

timm needs torchvision (`pip install timm torchvision`, without dependencies if torch is to stay).
Beside a torch for CPUs PyPI's torchvision, which is built for CUDA, cannot load its compiled
operators and stops with "operator torchvision::nms does not exist", Lightning with it, which
imports it where it is installed. An encoder uses none of these operators, so where that happens
their names are declared here, before anything else is imported.
"""

import contextlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
try:
    with contextlib.suppress(ImportError):  # there is none
        import torchvision  # noqa: F401
except RuntimeError:
    for operator in ("nms", "qnms"):  # that it asks for when it is imported
        LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from zoo import UsageError, register_backbone  # noqa: E402  # Lightning imports torchvision too


class FrozenEncoder(nn.Module):
    """A model of timm, from images of any size to its features."""

    def __init__(self, name: str, published: bool, side: int) -> None:
        """Make the model.

        Args:
            name: of a model of timm.
            published: whether it has the weights that timm fetches, or random ones.
            side: pixels a side that images are enlarged to.
        """
        super().__init__()
        try:
            import timm
        except ImportError:
            raise UsageError(
                f"backbone timm_{name}: timm is not installed; pip install timm"
            ) from None
        self.model = timm.create_model(name, pretrained=published, num_classes=0)
        self.features, self.side = self.model.num_features, side
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, D)."""
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        size = (self.side, self.side)
        return self.model(F.interpolate(x, size, mode="bilinear", antialias=True))


@register_backbone("timm_resnet18")
def timm_resnet18(image: tuple[int, ...], side: int = 224) -> nn.Module:
    """timm's ResNet-18 with the weights it fetches."""
    return FrozenEncoder("resnet18", True, side)


@register_backbone("timm_resnet18_random")
def timm_resnet18_random(image: tuple[int, ...], side: int = 224) -> nn.Module:
    """The same with random weights."""
    return FrozenEncoder("resnet18", False, side)

"""Backbones in plain PyTorch, as users bring them, without any of our layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A residual network with PyTorch's own batch norm."""

    features = 6

    def __init__(self, image: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(image[0], 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU()
        )
        self.conv1, self.norm1 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(x + h).mean((2, 3))


class PartlyFrozen(Residual):
    """`Residual` with a frozen stem, and with a classifier that is never called."""

    def __init__(self, image: tuple[int, ...]) -> None:
        super().__init__(image)
        self.stem.requires_grad_(False)
        self.fc = nn.Linear(6, 3)


class Depthwise(nn.Module):
    """Depthwise separable convolutions with group norm."""

    features = 8

    def __init__(self, image: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(image[0], 8, 3, 2, 1),
            nn.GroupNorm(2, 8),
            nn.SiLU(),
            nn.Conv2d(8, 8, 3, 2, 1, groups=8),
            nn.Conv2d(8, 8, 1),
            nn.GroupNorm(2, 8),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Attention(nn.Module):
    """A small vision transformer: patches, one block with layer norm, a mean over patches."""

    features = 8

    def __init__(self, image: tuple[int, ...]) -> None:
        super().__init__()
        patches = (image[1] // 4) * (image[2] // 4)
        self.patch = nn.Conv2d(image[0], 8, 4, 4)
        self.place = nn.Parameter(0.1 * torch.randn(patches, 8))
        self.block = nn.TransformerEncoderLayer(
            8, 2, 16, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        z = self.patch(x).flatten(2).mT + self.place
        return self.norm(self.block(z)).mean(1)


OTHER_NETWORKS = {
    "residual": Residual,
    "depthwise": Depthwise,
    "attention": Attention,
    "partly_frozen": PartlyFrozen,
}

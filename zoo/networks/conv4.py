"""Conv4: four blocks of convolutions, with pools or strides, with or without a mean over pixels."""

from torch import Tensor, nn

from zoo.batch_norm import BatchNorm
from zoo.networks.backbone import Backbone, BlockNet, checked_image_shape
from zoo.networks.layers import Conv, FixedImages, block
from zoo.registry import register_backbone


class ConvNet(BlockNet):
    """Four blocks of one convolution each."""

    family = "conv4"

    def __init__(self, image: tuple[int, int, int], channels: int, stride: int, mean: bool) -> None:
        """Make the layers, with fresh weights.

        Args:
            image: shape (C, H, W).
            channels: of each convolution.
            stride: of each convolution: 2, or 1 with a 2x2 max-pool in each block.
            mean: whether the features are means over pixels.
        """
        super().__init__()
        inputs, height, width = image
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for _ in range(4):
            self.convs.append(Conv(inputs, channels, stride=stride))
            self.norms.append(BatchNorm(channels))
            inputs = channels
            if stride == 2:  # rounds up, as a convolution does
                height, width = (height + 1) // 2, (width + 1) // 2
            else:
                height, width = height // 2, width // 2
        self.pooled = stride == 1
        self.widths = (channels,) * 4
        self.mean = mean
        self.features = channels if mean else channels * height * width

    def layers(self, number: int) -> list[tuple[Conv, BatchNorm]]:
        """The block's one convolution, with its norm."""
        return [(self.convs[number], self.norms[number])]  # type: ignore[list-item]

    def block(self, number: int, x: Tensor, fixed: FixedImages | None) -> Tensor:
        """Convolution, batch norm, ReLU; a max-pool if the convolution has no stride."""
        return block(x, *self.layers(number)[0], pool=self.pooled, fixed=fixed)

    def maps(self, x: Tensor, fixed: FixedImages | None) -> Tensor:
        """All blocks, then a mean over pixels if it was asked for."""
        x = self.run(x, fixed)
        return x.mean((2, 3), keepdim=True) if self.mean else x


@register_backbone("conv4")
def conv4(image: tuple[int, ...], channels: int = 64) -> Backbone:
    """Four blocks of 3x3 convolution, batch norm, ReLU, 2x2 max-pool (Snell 2017)."""
    return ConvNet(checked_image_shape("conv4", image, 16), channels, stride=1, mean=False)


@register_backbone("conv4_mean")
def conv4_mean(image: tuple[int, ...], channels: int = 64) -> Backbone:
    """Conv4, then a mean over pixels (NPBML's code, arXiv 2406.07983)."""
    return ConvNet(checked_image_shape("conv4_mean", image, 16), channels, stride=1, mean=True)


@register_backbone("conv4_strided")
def conv4_strided(image: tuple[int, ...], channels: int = 64) -> Backbone:
    """Four blocks of 3x3 stride-2 convolution, batch norm, ReLU; then a mean (Finn 2017)."""
    return ConvNet(checked_image_shape("conv4_strided", image, 1), channels, stride=2, mean=True)

"""Feature-wise linear modulation (FiLM), each example's by itself."""

from torch import Tensor, nn

from zoo.networks.backbone import Linear

START = 0.01  # standard deviation of what learns to modulate: nearly nothing


class FiLM(nn.Module):
    """(gamma(x) + 1) z + beta(x), with gamma and beta linear in what comes before z."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """From x of so many channels, for z of so many."""
        super().__init__()
        self.linear = Linear(inputs, 2 * outputs)
        start_small(self)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x (..., C), z (..., O) -> (..., O)."""
        gamma, beta = self.linear(x).chunk(2, -1)
        return (gamma + 1) * z + beta

    def maps(self, x: Tensor, z: Tensor) -> Tensor:
        """By x's means over pixels: (n, T*C, H, W), (n, T*O, H', W') -> (n, T*O, H', W')."""
        weight, means = self.linear.weight, x.mean((2, 3))
        if weight.dim() == 3:  # per-task parameters
            means = means.unflatten(1, (len(weight), -1)).transpose(0, 1)  # (T, n, C)
        gamma, beta = (fold_channels(part) for part in self.linear(means).chunk(2, -1))
        return (gamma + 1) * z + beta


def fold_channels(v: Tensor) -> Tensor:
    """Tasks into channels: (T, n, O) -> (n, T*O, 1, 1); (n, O) -> (n, O, 1, 1)."""
    return (v.transpose(0, 1).flatten(1) if v.dim() == 3 else v)[..., None, None]


def start_small(net: nn.Module) -> None:
    """Weights from N(0, 0.01^2), biases 0."""
    for p in net.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, 0, START)
        else:
            nn.init.zeros_(p)

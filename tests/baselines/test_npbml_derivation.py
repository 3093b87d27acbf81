"""Each formula of docs/npbml-losses.md, in float64 against NPBML's code."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.baselines.npbml_losses import LearnedLoss, soft_cross_entropy, statistics
from zoo.batch_norm import BatchNorm
from zoo.networks.layers import Conv, block

WAY, SHOT, QUERY, SIZE = 3, 4, 5, 7


def learned_loss(component: str) -> LearnedLoss:
    """One component away from where it starts, without FiLM."""
    torch.manual_seed(3)
    loss = LearnedLoss([component], WAY, ["w"], film=False).double()
    for p in loss.parameters():
        nn.init.normal_(p, 0, 0.5)
    return loss


def linear_task(examples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (n, D), a head's weights (N, D) and labels (n,): logits are x theta^T."""
    torch.manual_seed(4)
    x = torch.randn(examples, SIZE, dtype=torch.float64)
    theta = torch.randn(WAY, SIZE, dtype=torch.float64, requires_grad=True)
    return x, theta, torch.arange(examples) % WAY


def gradient(value: Tensor, theta: Tensor) -> Tensor:
    (g,) = torch.autograd.grad(value.sum(), theta, retain_graph=True)
    return g


def slopes(net: nn.Module, *parts: Tensor) -> list[Tensor]:
    """The derivatives of a loss network's numbers in each of its inputs."""
    parts = tuple(part.detach().requires_grad_() for part in parts)
    return list(torch.autograd.grad(net(torch.cat(parts, -1)).sum(), parts))


def test_a_the_base_loss():
    x, theta, y = linear_task(WAY * SHOT)
    logits = x @ theta.T
    expected = (logits.softmax(-1) - F.one_hot(y, WAY)).T @ x / len(x)
    torch.testing.assert_close(gradient(F.cross_entropy(logits, y), theta), expected)


def test_b_the_support_s_loss():
    loss = learned_loss("support")
    x, theta, y = linear_task(WAY * SHOT)
    logits = x @ theta.T
    got = gradient(loss.support(logits[None], y[None]), theta)
    label = F.one_hot(y, WAY).double()
    base = F.cross_entropy(logits, y, reduction="none")[:, None]
    _, by_logits, by_loss = slopes(loss.nets["support"], label, logits, base)
    expected = (by_logits + by_loss * (logits.softmax(-1) - label)).T @ x / len(x)
    torch.testing.assert_close(got, expected)


class Line(nn.Module):
    """c times the last input, the base loss, and a constant."""

    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = c

    def forward(self, x: Tensor) -> Tensor:
        return self.c * x[..., -1] + 0.3


def test_b_a_loss_of_the_loss_alone_is_a_rate():
    loss = learned_loss("support")
    loss.nets["support"] = Line(0.7)
    x, theta, y = linear_task(WAY * SHOT)
    logits = (x @ theta.T)[None]
    together = gradient(loss(logits, y[None]), theta)
    base = gradient(F.cross_entropy(logits[0], y), theta)
    torch.testing.assert_close(together, 1.7 * base)
    # With a slope that differs from example to example it is none.
    loss.nets["support"] = learned_loss("support").nets["support"]
    other = gradient(loss(logits, y[None]), theta)
    assert F.cosine_similarity(other.flatten(), base.flatten(), dim=0) < 0.999


def test_b_only_the_cross_entropy_leaves_the_sum_of_the_logits():
    loss = learned_loss("support")
    x, theta, y = linear_task(WAY * SHOT)
    logits = (x @ theta.T).detach().requires_grad_()
    base = gradient(F.cross_entropy(logits, y), logits)
    learned = gradient(loss.support(logits[None], y[None]), logits)
    assert base.sum(-1).abs().max() < 1e-15 < 1e-3 < learned.sum(-1).abs().max()


def test_c_the_queries_loss():
    loss = learned_loss("query")
    x, theta, _ = linear_task(WAY * QUERY)
    logits = x @ theta.T
    scores = torch.rand(len(x), WAY, dtype=torch.float64)
    got = gradient(loss.query(logits[None], scores[None]), theta)
    q = scores / scores.sum(-1, keepdim=True)
    base = soft_cross_entropy(logits, scores)[:, None]
    by_logits, _, by_loss = slopes(loss.nets["query"], logits, scores, base)
    expected = (by_logits + by_loss * (logits.softmax(-1) - q)).T @ x / len(x)
    torch.testing.assert_close(got, expected)


def test_d_the_regulariser():
    loss = learned_loss("regulariser")
    torch.manual_seed(5)
    w = torch.randn(1, 4, 6, dtype=torch.float64, requires_grad=True)
    got = gradient(loss.regulariser({"w": w}), w)
    (slope,) = slopes(loss.nets["regulariser"], statistics([w]))
    a, b, c, e = slope[0]
    n, m, d = w.numel(), w.mean(), w.std(correction=0)
    expected = a / n + b * (w - m) / (n * d) + c * w.sign() / math.sqrt(n) + e * w / w.norm()
    torch.testing.assert_close(got, expected.detach())


def test_d_the_first_step_is_the_same_for_every_task():
    loss = learned_loss("regulariser")
    torch.manual_seed(5)
    start = torch.randn(4, 6, dtype=torch.float64)
    w = start.expand(3, 4, 6).clone().requires_grad_()
    first, *others = gradient(loss.regulariser({"w": w}), w)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("k", [0.5, 2.0])
def test_in_front_of_a_batch_norm_the_length_of_the_weights_is_a_rate(k):
    torch.manual_seed(6)
    x = torch.randn(6, 3, 8, 8, dtype=torch.float64)
    conv, norm = Conv(3, 5).double(), BatchNorm(5, "batch").double()
    norm.eps = 1e-12
    v = torch.randn(6, 5, 4, 4, dtype=torch.float64)

    def loss_gradient() -> tuple[Tensor, Tensor]:
        value = (block(x, conv, norm, pool=True) * v).sum()
        return value.detach(), gradient(value, conv.weight)

    value, g = loss_gradient()
    w = conv.weight.detach().clone()
    assert ((g * w).flatten(1).sum(1).abs() < 1e-9 * g.norm() * w.norm()).all()
    with torch.no_grad():
        conv.weight.mul_(k)
    longer_value, longer = loss_gradient()
    torch.testing.assert_close(longer_value, value)
    torch.testing.assert_close(longer, g / k, rtol=1e-6, atol=1e-9)
    # A step with the rate k^2 alpha turns the longer weights as far as one with alpha turns w.
    alpha = 0.01
    turned, longer_turned = w - alpha * g, k * w - k**2 * alpha * longer
    torch.testing.assert_close(longer_turned / k, turned, rtol=1e-6, atol=1e-9)


def test_how_large_the_slope_must_be_to_double_a_rate():
    velocity, factors = 0.0, []
    for _ in range(5):
        velocity = 0.9 * velocity + 1
        factors.append(1 + 0.9 * velocity)
    assert factors == pytest.approx([1.9, 2.71, 3.44, 4.10, 4.69], abs=0.005)
    change = 0.01 * sum(factors)
    assert change == pytest.approx(0.17, abs=0.005)
    slope = (1 - math.sqrt(0.5)) / change  # in units of |w|
    assert slope == pytest.approx(1.7, abs=0.05)
    torch.manual_seed(0)
    length = Conv(128, 128).weight.detach().norm().item()
    assert length == pytest.approx(6.5, abs=0.05) and slope * length == pytest.approx(11, abs=0.5)

"""The functions with closed-form derivatives: gradcheck, gradgradcheck, and torch's own layers."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from zoo.networks.patch_statistics import PatchMoments, batch_moments
from zoo.networks.second_derivatives import (
    batch_norm,
    channel_moments,
    channels_last,
    conv2d,
    max_pool,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()


def check(function, inputs) -> None:
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


SHAPES = [(2, 3, 5, 5), (1, 3, 4, 5), (2, 1, 5, 4), (1, 1, 3, 3)]  # odd, one image, one channel


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_conv2d(shape, size, stride):
    x, w = random(*shape), random(2, shape[1], size, size, seed=1)
    torch.testing.assert_close(conv2d(x, w, stride), F.conv2d(x, w, None, stride, size // 2))
    check(lambda x, w: conv2d(x, w, stride), (x, w))


def test_conv2d_with_groups():
    x, w = random(2, 6, 4, 3), random(4, 3, 3, 3, seed=1)
    torch.testing.assert_close(conv2d(x, w, 1, 2), F.conv2d(x, w, None, 1, 1, 1, 2))
    check(lambda x, w: conv2d(x, w, 1, 2), (x, w))


def test_conv2d_of_what_is_fixed():
    x, w = random(2, 3, 5, 5), random(2, 3, 3, 3, seed=1)
    check(lambda w: conv2d(x.detach(), w), (w,))
    check(lambda x: conv2d(x, w.detach()), (x,))


def fused(relu, pool):
    return lambda z, g, b: batch_norm(channels_last(z.clone()), g, b, relu=relu, pool=pool)


def torchs(z, gamma, beta, relu, pool):
    y = F.batch_norm(z, None, None, gamma, beta, True)
    y = y.relu() if relu else y
    return F.max_pool2d(y, 2) if pool else y


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("pool", [False, True])
def test_batch_norm(shape, relu, pool):
    gamma = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)[-shape[1] :].requires_grad_()
    inputs = random(*shape), gamma, random(shape[1], seed=2)
    torch.testing.assert_close(fused(relu, pool)(*inputs), torchs(*inputs, relu, pool))
    check(fused(relu, pool), inputs)


def first_and_second(y, inputs):
    """Gradients of a curved function of y, and of the norm of those gradients."""
    first = torch.autograd.grad(y.sin().sum(), inputs, create_graph=True)
    return [*first, *torch.autograd.grad(sum(g.square().sum() for g in first), inputs)]


@pytest.mark.parametrize("gamma", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("values", [2, 1])
def test_batch_norm_of_ties(gamma, values):
    """Maps of two values, or of one, are full of ties: the first maximum gets the gradient."""
    z = random(3, 2, 6, 7).gt(0).double() * (values - 1) + 1
    inputs = z.requires_grad_(), torch.full((2,), gamma).double().requires_grad_(), random(2)
    ours = fused(True, True)(*inputs)
    theirs = torchs(*inputs, True, True)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(first_and_second(ours, inputs), first_and_second(theirs, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_batch_norm_moves_running_statistics_as_torch_does():
    z, running = random(4, 3, 5, 5).detach(), [torch.zeros(3).double(), torch.ones(3).double()]
    theirs = [t.clone() for t in running]
    F.batch_norm(z, *theirs, training=True)
    batch_norm(channels_last(z), torch.ones(3).double(), torch.zeros(3).double(), running=running)
    for a, b in zip(running, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_moments_of_large_maps_are_exact_in_float32():
    """PyTorch's own of a channels-last map, on one CPU thread, are off by 1e-4 and more here."""
    for z in (torch.full((40, 3, 50, 50), 0.7), random(40, 3, 50, 50).detach().float() + 0.7):
        mean, var = channel_moments(channels_last(z))
        wanted_var, wanted = torch.var_mean(z.double(), (0, 2, 3), correction=0)
        torch.testing.assert_close(mean.double(), wanted, rtol=2e-6, atol=0)
        torch.testing.assert_close(var.double(), wanted_var, rtol=2e-6, atol=1e-11)
    y = batch_norm(channels_last(torch.full((40, 3, 50, 50), 0.7)), torch.ones(3), torch.zeros(3))
    assert y.abs().max() < 3e-4  # a channel without variance is nothing; by PyTorch's mean 0.1


def test_max_pool():
    z = random(2, 3, 5, 4)
    torch.testing.assert_close(max_pool(z), F.max_pool2d(z, 2))
    check(max_pool, (z,))
    flat = torch.ones(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    ours, theirs = (
        torch.autograd.grad(f(flat).sum(), flat)[0]
        for f in (max_pool, lambda z: F.max_pool2d(z, 2))
    )
    assert torch.equal(ours, theirs)


def test_batch_moments():
    z = random(3, 2, 4, 5)
    var, mean = torch.var_mean(z, (0, 2, 3), correction=0)
    torch.testing.assert_close(batch_moments(z), (mean, var))
    check(batch_moments, (z,))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shift", [0, 100])
def test_patch_moments_are_those_of_the_output(stride, shift):
    x, w = random(3, 4, 6, 7).detach() + shift, random(6, 2, 3, 3, seed=1)
    ours = PatchMoments.of(x, 3, stride, groups=2).after(w)
    theirs = batch_moments(conv2d(x, w, stride, groups=2))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: batch_norm(channels_last(z * 1), z.new_ones(2), z.new_zeros(2), relu=True),
        lambda z: conv2d(z, z.new_ones(2, 2, 3, 3) * z.sum()),
    ],
)
def test_a_third_derivative_is_refused(function):
    z = random(2, 2, 4, 4)
    (first,) = torch.autograd.grad(function(z).sin().sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="third derivative"):
        torch.autograd.grad(second.square().sum(), z)

"""FiLM: against numpy, and that it starts as nearly nothing."""

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from zoo.batch_norm import BatchNorm
from zoo.networks.layers import Conv, FiLM, block


def film(inputs: int = 3, outputs: int = 2, std: float = 1.0) -> FiLM:
    torch.manual_seed(0)
    net = FiLM(inputs, outputs).double()
    for p in net.parameters():
        nn.init.normal_(p, 0, std)
    return net


def test_it_equals_numpy():
    net = film()
    w, b = net.linear.weight.detach().numpy(), net.linear.bias.detach().numpy()
    x, z = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    moved = x.numpy() @ w.T + b
    expected = (moved[:, :2] + 1) * z.numpy() + moved[:, 2:]
    np.testing.assert_allclose(net(x, z).detach(), expected, rtol=1e-12)


def test_maps_are_modulated_by_each_examples_own_means():
    net = film()
    w, b = net.linear.weight.detach().numpy(), net.linear.bias.detach().numpy()
    x, z = torch.randn(5, 3, 4, 4).double(), torch.randn(5, 2, 2, 3).double()
    for n in range(5):
        moved = w @ x[n].numpy().mean((1, 2)) + b
        expected = (moved[:2, None, None] + 1) * z[n].numpy() + moved[2:, None, None]
        np.testing.assert_allclose(net.maps(x, z)[n].detach(), expected, rtol=1e-12)


def test_all_tasks_at_once_equal_one_by_one():
    net = film()
    theta = {name: torch.randn(2, *p.shape).double() for name, p in net.named_parameters()}
    x, z = torch.randn(5, 2, 3, 4, 4).double(), torch.randn(5, 2, 2, 4, 4).double()
    net.forward = lambda x, z: net.maps(x, z)
    both = functional_call(net, theta, (x.flatten(1, 2), z.flatten(1, 2))).unflatten(1, (2, 2))
    for t in range(2):
        one = {name: p[t] for name, p in theta.items()}
        alone = functional_call(net, one, (x[:, t], z[:, t]))
        torch.testing.assert_close(both[:, t], alone, rtol=1e-12, atol=1e-12)


def test_in_a_block_it_stands_between_norm_and_relu():
    conv, norm = Conv(3, 2).double(), BatchNorm(2).double()
    x = torch.randn(6, 3, 8, 8).double()
    plain = block(x, conv, norm, pool=True)
    norm.film = film(std=0.0)
    torch.testing.assert_close(block(x, conv, norm, pool=True), plain, rtol=1e-12, atol=1e-12)
    norm.film = film()
    z = F.batch_norm(F.conv2d(x, conv.weight, padding=1), None, None, training=True)
    expected = F.max_pool2d(F.relu(norm.film.maps(x, z)), 2)
    got = block(x, conv, norm, pool=True)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    assert (got - plain).abs().max() > 0.1


def test_it_starts_as_nearly_nothing():
    net = FiLM(30, 40)
    assert 0.005 < net.linear.weight.std() < 0.02 and not net.linear.bias.any()

"""How an added loss pulls beside its host's."""

import math

import pytest
import torch

from zoo.losses import compare_gradients


def weights(*values):
    return [torch.tensor(value, requires_grad=True) for value in values]


def test_gradients_by_hand():
    """Of a, b and c the host does not reach c; gradients (3, 0) and (4, 3)."""
    a, b, c = weights(1.0, 1.0, 1.0)
    ratio, cosine = compare_gradients(3 * a + 0 * b, 4 * a + 3 * b + 100 * c, [a, b, c])
    assert ratio.item() == pytest.approx(5 / 3) and cosine.item() == pytest.approx(4 / 5)


def test_a_loss_without_a_gradient_does_not_pull():
    a, frozen = torch.ones(2, requires_grad=True), torch.ones(2)
    for added in (torch.tensor(3.0), 0 * a.sum()):
        assert [x.item() for x in compare_gradients(a.sum(), added, [a, frozen])] == [0, 0]


def test_the_losses_can_still_be_minimised():
    (a,) = weights(2.0)
    host, added = a**2, torch.exp(a)
    compare_gradients(host, added, [a])
    (host + added).backward()
    assert a.grad is not None and a.grad.item() == pytest.approx(4 + math.exp(2))

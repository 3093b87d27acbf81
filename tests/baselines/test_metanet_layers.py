"""Fast weights: layers under several weights, and what makes them, against numpy."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from zoo.baselines.metanet_layers import (
    ByLSTM,
    ByMLP,
    FastTail,
    attention,
    contrastive,
    pairs,
    preprocess,
    split_network,
)
from zoo.methods.inner_loop import call, gradient_of
from zoo.networks.backbone import Classifier, build_backbone


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpied(module):
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def made(module):
    """In float64, with weights large enough to matter."""
    g = torch.Generator().manual_seed(1)
    for p in module.double().parameters():
        torch.nn.init.normal_(p, 0, 0.5, generator=g)
    return module


def test_gradients_are_preprocessed_as_published():
    p, edge = 7, np.exp(-7.0)
    g = np.array([0, 1e-9, -1e-9, 0.5 * edge, -0.999 * edge, edge, -edge, -0.01, 0.3, -20])
    expected = [
        (np.log(abs(x)) / p, np.sign(x)) if abs(x) >= edge else (-1, np.exp(p) * x) for x in g
    ]
    np.testing.assert_allclose(preprocess(torch.from_numpy(g), p), expected, rtol=1e-12, atol=1e-12)


def test_one_lstm_for_all_coordinates():
    """i, f, g, o; c = f c + i g; h = o tanh(c), from zeros; each coordinate by itself."""
    d, g = made(ByLSTM(3, 7.0)), torch.randn(2, 4, 5).double() * 0.01
    w = numpied(d)
    expected = np.zeros((2, 1, 5))
    for t in range(2):
        for k in range(5):
            h = c = np.zeros(3)
            for x in preprocess(g[t, :, k], 7.0).numpy():
                z = w["lstm.weight_ih_l0"] @ x + w["lstm.bias_ih_l0"]
                z = z + w["lstm.weight_hh_l0"] @ h + w["lstm.bias_hh_l0"]
                i, f, o = sigmoid(z[:3]), sigmoid(z[3:6]), sigmoid(z[9:])
                c = f * c + i * np.tanh(z[6:9])
                h = o * np.tanh(c)
            expected[t, 0, k] = (w["out.weight"] @ h + w["out.bias"])[0]
    np.testing.assert_allclose(d(g).detach(), expected, rtol=1e-10)


def test_one_mlp_for_all_coordinates():
    m, g = made(ByMLP(4, 7.0)), torch.randn(2, 3, 5).double() * 0.01
    w = numpied(m)
    x = preprocess(g, 7.0).numpy()
    for number in (0, 2):
        x = np.maximum(x @ w[f"layers.{number}.weight"].T + w[f"layers.{number}.bias"], 0)
    expected = x @ w["layers.4.weight"].T + w["layers.4.bias"]
    np.testing.assert_allclose(m(g).detach(), expected[..., 0], rtol=1e-10)


def tail_of(convs: int) -> FastTail:
    return made(FastTail((2, 5, 3), convs, 3, 4, 6))


@pytest.mark.parametrize("convs", [0, 1, 2])
def test_each_example_has_its_own_weights(convs):
    """h = relu(W x) + relu(W* x), and logits W h + W* h, with torch's own layers one by one."""
    tail, (tasks, n) = tail_of(convs), (2, 3)
    z = torch.randn(tasks, n, 30).double()
    fast = [torch.randn(tasks, k, len(tail.weights)).double() for k in (1, n)]
    r, logits = tail(z, tail.weights, *fast)
    assert r.shape == (tasks, n, 4) and logits.shape == (tasks, n, 6)
    for t in range(tasks):
        for i in range(n):
            flat = [tail.weights, fast[0][t, 0], fast[1][t, i]]
            layers = list(zip(*map(tail.layers, flat), strict=True))
            x = z[t, i].view(1, 2, 5, 3)
            for layer in layers[:convs]:
                x = sum(F.relu(F.conv2d(x, w.view(3, -1, 3, 3), padding=1)) for w in layer)
                x = F.max_pool2d(x, 2, ceil_mode=True)
            parts = [F.linear(x.flatten(), w) for w in layers[-2]]
            torch.testing.assert_close(r[t, i], sum(parts))
            expected = sum(F.linear(sum(map(F.relu, parts)), w) for w in layers[-1])
            torch.testing.assert_close(logits[t, i], expected)


@pytest.mark.parametrize("convs", [0, 1, 5])
def test_without_fast_weights_it_is_the_plain_network(convs):
    """With zeros for fast weights too: the slow learner, torch's own layers."""
    torch.manual_seed(0)
    trunk, tail = split_network(build_backbone("conv5[channels=3]", (2, 28, 28)), convs, 4, 6)
    x = torch.randn(7, 2, 28, 28)
    z = trunk(x)[None]
    *kernels, hidden, head = tail.layers(tail.weights)
    h = x
    for weight in [*(conv.weight for conv in trunk.convs), *kernels]:
        h = F.relu(F.conv2d(h, weight.reshape(3, -1, 3, 3), padding=1))
        h = F.max_pool2d(h, 2, ceil_mode=True)
    assert h.shape[1:] == (3, 1, 1)  # 28, 14, 7, 4, 2, 1
    expected = F.relu(h.flatten(1) @ hidden.T) @ head.T
    torch.testing.assert_close(tail(z, tail.weights)[1][0], expected)
    zeros = torch.zeros(1, 7, len(tail.weights))
    torch.testing.assert_close(tail(z, tail.weights, zeros)[1][0], expected)


def test_weights_start_as_published():
    torch.manual_seed(0)
    for net in (*split_network(build_backbone("conv5", (1, 28, 28)), 1, 64, 5), ByLSTM(20, 7.0)):
        w = torch.cat([p.detach().flatten() for p in net.parameters()])
        assert w.min() < -0.099 and 0.099 < w.max() < 0.1
        assert w.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.03)


def test_gradients_of_examples_are_their_own():
    """All at once against one backward pass an example."""
    tail, z, y = tail_of(1), torch.randn(2, 3, 30).double(), torch.tensor([[0, 3, 5], [1, 1, 2]])

    def losses(w, z):
        return F.cross_entropy(tail(z, w)[1].mT, y, reduction="none")

    g = gradient_of(losses, tail.weights.expand(2, 3, -1), z, detach=True)
    assert not g.requires_grad
    for t in range(2):
        for i in range(3):
            loss = F.cross_entropy(
                tail(z[t : t + 1, i : i + 1], tail.weights)[1][0], y[t, i : i + 1]
            )
            (alone,) = torch.autograd.grad(loss, tail.weights)
            torch.testing.assert_close(g[t, i], alone)


def test_attention_is_the_softmax_of_cosines():
    r, keys = torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double()
    a, b = r.numpy()[:, :, None], keys.numpy()[:, None]
    cosines = (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    expected = np.exp(cosines) / np.exp(cosines).sum(-1, keepdims=True)
    np.testing.assert_allclose(attention(r, keys), expected, rtol=1e-10)


def test_pairs_are_of_one_class_and_of_two_in_turn():
    y = torch.tensor([[2, 0, 1, 1, 2, 0]])
    places = torch.arange(6.0).view(1, 6, 1)
    one, other, same = pairs(places, y, 3, 100)
    assert one.flatten().tolist() == [1, 1, 2, 2, 0, 0]
    assert other.flatten().tolist() == [5, 3, 3, 4, 4, 5]
    assert same.tolist() == [[True, False] * 3]
    assert [part.shape[1] for part in pairs(places, y, 3, 5)] == [5, 5, 5]


def test_the_contrastive_loss_by_hand():
    """At distance 0.5: its square within a class, (1 - 0.5)^2 between two, none beyond 1."""
    r = torch.zeros(3, 2).double()
    s = torch.tensor([[0.3, 0.4], [0.0, 0.5], [1.2, 0.0]]).double()
    loss = contrastive(r, s, torch.tensor([True, False, False]), 1.0)
    torch.testing.assert_close(loss, torch.tensor([0.25, 0.25, 0.0]).double(), rtol=0, atol=1e-5)


def test_conv5_takes_each_task_its_own_weights():
    torch.manual_seed(0)
    net = Classifier(build_backbone("conv5[channels=3]", (2, 20, 21)), 4).double()
    theta = {n: torch.randn(3, *p.shape).double() for n, p in net.named_parameters()}
    x = torch.randn(3, 5, 2, 20, 21).double()
    together = call(net, theta, x)
    net.folds = False
    torch.testing.assert_close(together, call(net, theta, x))

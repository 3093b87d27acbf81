"""NPBML's losses, against numpy, written from the paper's section 4."""

import numpy as np
import pytest
import torch
from torch import nn

from zoo.baselines.npbml_losses import (
    COMPONENTS,
    LearnedLoss,
    components_of,
    smooth_leaky_relu,
    soft_cross_entropy,
    statistics,
)
from zoo.errors import UsageError

WAY, SHOT, QUERY = 3, 2, 4


def losses(*components: str, film: bool = True, std: float = 0.3) -> LearnedLoss:
    torch.manual_seed(0)
    net = LearnedLoss(components, WAY, ["conv", "head"], film).double()
    for p in net.parameters():
        nn.init.normal_(p, 0, std)
    return net


def problem(tasks: int = 2):
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(tasks, WAY * (SHOT + QUERY), WAY, generator=g).double()
    y = torch.stack([torch.randperm(WAY * SHOT, generator=g) % WAY for _ in range(tasks)])
    return logits, y, torch.rand(tasks, WAY * QUERY, WAY, generator=g).double()


def softplus(x):
    return np.logaddexp(0, 5 * x) / 5


def by_numpy(net, x):
    """Linear, FiLM, ReLU twice; Linear, SmoothLeakyReLU."""
    p = {name: value.detach().numpy() for name, value in net.named_parameters()}
    for n in range(2):
        z = x @ p[f"hidden.{n}.weight"].T + p[f"hidden.{n}.bias"]
        if net.films:
            moved = x @ p[f"films.{n}.linear.weight"].T + p[f"films.{n}.linear.bias"]
            z = (moved[..., :40] + 1) * z + moved[..., 40:]
        x = np.maximum(z, 0)
    u = x @ p["out.weight"].T + p["out.bias"]
    return (0.25 * u + 0.75 * softplus(u))[..., 0]


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_smooth_leaky_relu():
    x = torch.tensor([-3.0, -0.1, 0.0, 0.1, 3.0]).double()
    expected = 0.25 * x.numpy() + 0.75 * softplus(x.numpy())
    np.testing.assert_allclose(smooth_leaky_relu(x), expected, rtol=1e-12)
    assert smooth_leaky_relu(x)[2].item() == pytest.approx(0.75 * np.log(2) / 5)
    assert smooth_leaky_relu(x)[0].item() == pytest.approx(-0.75, abs=1e-6)


@pytest.mark.parametrize("film", [False, True])
def test_the_support_loss_reads_label_prediction_and_base_loss(film):
    net, (logits, y, _) = losses("support", film=film), problem()
    rows = logits[:, : WAY * SHOT].numpy()
    base = -np.take_along_axis(log_softmax(rows), y.numpy()[..., None], -1)
    x = np.concatenate([np.eye(WAY)[y.numpy()], rows, base], -1)
    assert x.shape[-1] == 2 * WAY + 1
    expected = base.mean((1, 2)) + by_numpy(net.nets["support"], x).mean(1)
    np.testing.assert_allclose(net(logits, y).detach(), expected, rtol=1e-10)


@pytest.mark.parametrize("film", [False, True])
def test_the_query_loss_reads_prediction_relations_and_the_loss_between(film):
    net, (logits, y, relations) = losses("query", film=film), problem()
    rows, scores = logits[:, WAY * SHOT :].numpy(), relations.numpy()
    target = scores / scores.sum(-1, keepdims=True)
    between = -(target * log_softmax(rows)).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        soft_cross_entropy(torch.tensor(rows), relations), between[..., 0], rtol=1e-10
    )
    x = np.concatenate([rows, scores, between], -1)
    added = by_numpy(net.nets["query"], x).mean(1)
    base = losses()(logits, y).numpy()
    np.testing.assert_allclose(net(logits, y, relations).detach(), base + added, rtol=1e-10)
    net.hard_labels = True
    label = scores.argmax(-1)[..., None]
    x[..., -1:] = -np.take_along_axis(log_softmax(rows), label, -1)
    added = by_numpy(net.nets["query"], x).mean(1)
    np.testing.assert_allclose(net(logits, y, relations).detach(), base + added, rtol=1e-10)


def test_the_regulariser_reads_four_statistics_of_each_layer():
    """Its L1 norm is of magnitudes, not L2 again; and all four have a gradient."""
    g = torch.Generator().manual_seed(2)
    theta = {"conv": torch.randn(2, 4, 3, 3, 3, generator=g), "head": torch.randn(2, 5, 4)}
    theta = {name: w.double() + 0.2 for name, w in theta.items()}
    for t in range(2):
        expected = []
        for w in (theta["conv"][t].numpy().ravel(), theta["head"][t].numpy().ravel()):
            l1 = np.linalg.norm(w, 1) / np.sqrt(w.size)
            expected += [w.mean(), w.std(), l1, np.linalg.norm(w, 2)]
        np.testing.assert_allclose(statistics(list(theta.values()))[t], expected, rtol=1e-10)
        assert expected[2] < 0.95 * expected[3]
    net = losses("regulariser")
    numbers = statistics(list(theta.values())).numpy()
    got = net.regulariser(theta | {"bias": torch.full((2, 5), 9.0)})
    np.testing.assert_allclose(got.detach(), by_numpy(net.nets["regulariser"], numbers))
    for kind in range(4):
        w = theta["conv"].clone().requires_grad_()
        statistics([w])[:, kind].sum().backward()
        assert w.grad.abs().min() > 0


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_that_is_off_is_absent(component):
    net, (logits, y, relations) = losses(component), problem()
    theta = {"conv": torch.randn(2, 3, 3).double(), "head": torch.randn(2, 3).double()}
    assert list(net.nets) == [component]
    plain = losses()
    assert not list(plain.parameters()) and not plain.regulariser(theta).any()
    base = torch.nn.functional.cross_entropy(logits[:, : WAY * SHOT].mT, y, reduction="none").mean(
        1
    )
    torch.testing.assert_close(plain(logits, y), base)
    got = net(logits, y, relations if component == "query" else None)
    assert ((got - base).abs().min() > 1e-6) == (component != "regulariser")
    assert net.regulariser(theta).bool().all() == (component == "regulariser")


def test_the_support_loss_sees_no_query_and_the_query_loss_no_support():
    logits, y, relations = problem()
    for component in ("support", "query"):
        net, x = losses(component), logits.clone().requires_grad_()
        net(x, y, relations if component == "query" else None).sum().backward()
        queries = x.grad[:, WAY * SHOT :]
        assert queries.abs().max() > 1e-6 if component == "query" else not queries.any()


def test_at_zero_its_gradient_is_the_base_losss():
    logits, y, relations = problem()
    grads = []
    for net in (losses("support", "query", std=0.0), losses()):
        x = logits.clone().requires_grad_()
        net(x, y, relations if net.nets else None).sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


def test_it_starts_nearly_constant():
    net = LearnedLoss(COMPONENTS, WAY, ["conv"], film=True)
    x = torch.randn(100, 2 * WAY + 1)
    assert net.nets["support"](x).std() < 1e-3
    weights = torch.cat([p.flatten() for p in net.parameters() if p.dim() > 1])
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)
    sizes = [tuple(p.shape) for n, p in net.nets["support"].named_parameters() if p.dim() > 1]
    assert sizes == [(40, 7), (40, 40), (80, 7), (80, 40), (1, 40)]


def test_the_regulariser_does_not_outweigh_the_base_loss_from_the_start():
    """Its gradient is small in a layer of any width."""
    net = LearnedLoss(["regulariser"], WAY, ["conv"], film=True)
    for width in (8, 512):
        w = (torch.randn(1, width, width, 3, 3) * (2 / 9 / width) ** 0.5).requires_grad_()
        (g,) = torch.autograd.grad(net.regulariser({"conv": w}), w)
        assert 0 < g.norm() < 0.01


def test_the_components_by_name():
    assert components_of("all", False) == set(COMPONENTS)
    assert components_of("all", True) == {"support", "regulariser"}
    assert components_of("none", False) == set()
    assert components_of("support+regulariser", True) == {"support", "regulariser"}
    with pytest.raises(UsageError, match="loss: no component 'suport': choose from support, query"):
        components_of("suport", False)
    with pytest.raises(UsageError, match="loss query: reads the queries"):
        components_of("query+support", True)

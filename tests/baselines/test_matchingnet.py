"""Matching Networks against numpy, written from the paper's equations."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import episode_of
from zoo import Episode, Examples
from zoo.baselines.matchingnet import FullContext, MatchingNet
from zoo.conformance import CHECKS, Maker
from zoo.errors import UsageError


class Identity(nn.Module):
    """Features are the pixels."""

    features = 6

    def forward(self, x):
        return x.flatten(1)


def matching(**options) -> MatchingNet:
    torch.manual_seed(0)
    return MatchingNet(Identity(), 3, **options).double().eval()


def episode() -> Episode:
    drawn = episode_of(way=3, image=(6,), tasks=2)
    return Episode(*(Examples(e.x.double(), e.y) for e in drawn[:2]), drawn.way)


def softmax(values):
    e = np.exp(values - values.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def posterior(support, y, query, way, *, l2=False, temperature=1.0):
    """P(y|x,S) of one task, point by point (eq. 1)."""
    p = np.zeros((len(query), way))
    for n, x in enumerate(query):
        if l2:
            c = [-((x - xi) ** 2).sum() for xi in support]
        else:
            c = [x @ xi / np.sqrt((x @ x) * (xi @ xi)) for xi in support]
        for a, label in zip(softmax(np.array(c) / temperature), y, strict=True):
            p[n, label] += a
    return p


@pytest.mark.parametrize("options", [{}, {"distance": "l2"}, {"temperature": 0.01}])
def test_the_posterior_is_the_papers(options):
    e, learner = episode(), matching(**options)
    known = {"l2": "distance" in options, "temperature": options.get("temperature", 1.0)}
    expected = np.stack(
        [
            posterior(*(part[t].numpy() for part in (*e.support, e.query.x)), 3, **known)
            for t in range(2)
        ]
    )
    np.testing.assert_allclose(learner(e).exp().numpy(), expected, rtol=1e-9)
    right = np.take_along_axis(expected, e.query.y.numpy()[..., None], -1)
    assert learner.meta_loss(e).item() == pytest.approx(-np.log(right).mean())


@pytest.mark.parametrize(
    ("others", "cap"),
    [(torch.eye(5), np.e / (np.e + 4)), (-torch.eye(5)[[0] * 5], np.e / (np.e + 4 / np.e))],
)
def test_bare_cosines_cap_the_posterior(others, cap):
    """At one shot of 5 ways 0.405 where features are not negative, else 0.65."""
    others[0] = torch.eye(5)[0]
    support = Examples(others[None], torch.arange(5)[None])
    query = Examples(torch.eye(5)[None, :1], torch.tensor([[0]]))
    log_p = MatchingNet(Identity(), 5).eval()(Episode(support, query, 5))
    assert log_p.argmax() == 0 and log_p.exp().max().item() == pytest.approx(cap)


@pytest.mark.parametrize("scale", [0.0, 1e3])
@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_loss_and_gradient_are_finite(scale, distance):
    """Also where a class is so far away that its probability is zero in floats, and at zero."""
    batch = episode()
    support, query = (Examples((scale * e.x).float().requires_grad_(), e.y) for e in batch[:2])
    learner = matching(distance=distance).float()
    loss = learner.meta_loss(Episode(support, query, 3))
    loss.backward()
    assert loss.isfinite() and loss < 1e9
    assert support.x.grad.isfinite().all() and query.x.grad.isfinite().all()


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def lstm(gates, c):
    """One step of an LSTM from the sums of its gates, in PyTorch's order: h, c."""
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def along(z, w, u, b):
    """The states of an LSTM along a sequence."""
    h, c, states = np.zeros(z.shape[1]), np.zeros(z.shape[1]), []
    for x in z:
        h, c = lstm(w @ x + u @ h + b, c)
        states.append(h)
    return np.array(states)


@pytest.mark.parametrize("steps", [1, 3])
def test_full_context_is_the_papers(steps):
    torch.manual_seed(0)
    context = FullContext(4, steps).double()
    f_, g_ = torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double()
    g, f = (t.detach().numpy() for t in context(g_, f_))
    p = {name: value.detach().numpy() for name, value in context.named_parameters()}
    for t in range(2):
        z, forth, back = g_[t].numpy(), "along.{}_l0", "along.{}_l0_reverse"
        states = [
            along(
                z[::order],
                p[name.format("weight_ih")],
                p[name.format("weight_hh")],
                p[name.format("bias_ih")] + p[name.format("bias_hh")],
            )[::order]
            for name, order in ((forth, 1), (back, -1))
        ]
        own = states[0] + states[1] + z  # appendix A.2
        np.testing.assert_allclose(g[t], own, rtol=1e-9)
        w = p["attending.weight_ih"][:, :4]  # of f'(x)
        u = np.hstack([p["attending.weight_hh"], p["attending.weight_ih"][:, 4:]])  # of [h, r]
        b = p["attending.bias_ih"] + p["attending.bias_hh"]
        for n, x in enumerate(f_[t].numpy()):
            h_hat, c = np.zeros(4), np.zeros(4)
            for _ in range(steps):
                h = h_hat + x  # eq. 4
                r = softmax(own @ h) @ own  # eqs. 5 and 6
                h_hat, c = lstm(w @ x + u @ np.concatenate([h, r]) + b, c)  # eq. 3
            np.testing.assert_allclose(f[t, n], h_hat + x, rtol=1e-9)


def test_full_context_is_what_is_compared():
    e, learner = episode(), matching(fce=True, processing_steps=3)
    g, f = learner.context(e.support.x, e.query.x)
    inside = Episode(Examples(g, e.support.y), Examples(f, e.query.y), 3)
    torch.testing.assert_close(learner(e), matching()(inside))
    assert not torch.allclose(learner(e), matching()(e), atol=1e-2)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.run.__name__)
@pytest.mark.parametrize("options", [{"fce": True}, {"distance": "l2", "temperature": 2.0}])
def test_variants_keep_the_promises(check, options):
    verdict, why = check.verdict(Maker("matchingnet", options))
    assert verdict != "fails", why


@pytest.mark.parametrize("fce", [False, True])
def test_the_order_of_the_support_matters_to_full_context_alone(fce):
    e, learner = episode(), matching(fce=fce)
    flipped = e._replace(support=Examples(e.support.x.flip(1), e.support.y.flip(1)))
    assert torch.allclose(learner(flipped), learner(e)) != learner.sequential
    assert learner.sequential == fce


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"distance": "l1"}, "distance l1: choose from cosine, l2"),
        ({"processing_steps": 0}, "processing_steps 0: expected at least 1"),
        ({"temperature": 0.0}, "temperature 0.0: expected a number above 0, or null"),
        ({"temperature": float("nan")}, "temperature nan: expected"),
    ],
)
def test_bad_options_are_named(options, says):
    with pytest.raises(UsageError, match=says):
        matching(**options)

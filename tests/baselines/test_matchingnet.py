"""Matching Networks against numpy, written from the paper's equations."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import episode_of
from zoo import Episode, Examples
from zoo.baselines.matchingnet import FullContext, MatchingNet
from zoo.commands.missing_cells import missing_row
from zoo.conformance import CHECKS, Maker
from zoo.errors import UsageError
from zoo.runs.request import RunRequest


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


def posterior(support, y, query, way, *, distance="cosine", normalise="support", temperature=1.0):
    """P(y|x,S) of one task, point by point (eq. 1)."""
    p = np.zeros((len(query), way))
    for n, x in enumerate(query):
        if distance == "l2":
            c = [-((x - xi) ** 2).sum() for xi in support]
        else:
            lengths = {
                "both": lambda x, xi: np.sqrt((x @ x) * (xi @ xi)),
                "support": lambda x, xi: np.sqrt(xi @ xi),
                "none": lambda x, xi: 1.0,
            }[normalise]
            c = [x @ xi / lengths(x, xi) for xi in support]
        for a, label in zip(softmax(np.array(c) / temperature), y, strict=True):
            p[n, label] += a
    return p


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalise": "both"},
        {"normalise": "none"},
        {"distance": "l2"},
        {"normalise": "both", "temperature": 0.01},
    ],
)
def test_the_posterior_is_the_papers(options):
    e, learner = episode(), matching(**options)
    expected = np.stack(
        [
            posterior(*(part[t].numpy() for part in (*e.support, e.query.x)), 3, **options)
            for t in range(2)
        ]
    )
    np.testing.assert_allclose(learner(e).exp().numpy(), expected, rtol=1e-9)
    right = np.take_along_axis(expected, e.query.y.numpy()[..., None], -1)
    assert learner.meta_loss(e).item() == pytest.approx(-np.log(right).mean())


@pytest.mark.parametrize(
    ("normalise", "similarity"),
    [("both", 0.8), ("support", 1.6), ("none", 8.0)],  # (0, 2).(3, 4) = 8, of lengths 2 and 5
)
def test_what_is_normalised(normalise, similarity):
    """Beside an orthogonal example of the other class, so P = 1 / (1 + exp(-similarity))."""
    support = Examples(torch.tensor([[[3.0, 4.0], [5.0, 0.0]]]), torch.tensor([[0, 1]]))
    query = Examples(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[0]]))
    p = MatchingNet(Identity(), 2, normalise=normalise).eval()(Episode(support, query, 2)).exp()
    assert p[0, 0, 0].item() == pytest.approx(1 / (1 + np.exp(-similarity)))


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        ("matchingnet", "only the support is normalised; the paper's formula has both sides"),
        ("matchingnet[normalise=none]", "neither side is normalised; the paper's formula has both"),
        ("matchingnet[normalise=both]", None),
        ("matchingnet[distance=l2]", None),
    ],
)
def test_tables_say_what_is_not_the_papers_formula(variant, says):
    request = RunRequest(variant, "glyphs", budget="none")
    assert missing_row(request, "not run")["remark"] == says


@pytest.mark.parametrize("normalise", ["both", "support", "none"])
def test_squared_distances_are_of_embeddings_as_they_are(normalise):
    e = episode()
    assert torch.equal(matching(distance="l2", normalise=normalise)(e), matching(distance="l2")(e))


@pytest.mark.parametrize(
    ("others", "cap"),
    [(torch.eye(5), np.e / (np.e + 4)), (-torch.eye(5)[[0] * 5], np.e / (np.e + 4 / np.e))],
)
def test_bare_cosines_cap_the_posterior(others, cap):
    """At one shot of 5 ways 0.405 where features are not negative, else 0.65."""
    others[0] = torch.eye(5)[0]
    support = Examples(others[None], torch.arange(5)[None])
    query = Examples(torch.eye(5)[None, :1], torch.tensor([[0]]))
    log_p = MatchingNet(Identity(), 5, normalise="both").eval()(Episode(support, query, 5))
    assert log_p.argmax() == 0 and log_p.exp().max().item() == pytest.approx(cap)


def test_a_long_query_is_sure_of_its_class():
    """With the support alone normalised: at length 10 P = 1 / (1 + 4 exp(-10))."""
    support = Examples(torch.eye(5)[None], torch.arange(5)[None])
    query = Examples(10 * torch.eye(5)[None, :1], torch.tensor([[0]]))
    p = MatchingNet(Identity(), 5).eval()(Episode(support, query, 5)).exp()
    assert p.max().item() == pytest.approx(1 / (1 + 4 * np.exp(-10)))


@pytest.mark.parametrize("scale", [0.0, 1e3])
@pytest.mark.parametrize(
    "options",
    [{}, {"normalise": "both"}, {"normalise": "none"}, {"distance": "l2"}],
)
def test_loss_and_gradient_are_finite(scale, options):
    """Also where a class is so far away that its probability is zero in floats, and at zero."""
    batch = episode()
    support, query = (Examples((scale * e.x).float().requires_grad_(), e.y) for e in batch[:2])
    learner = matching(**options).float()
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


@pytest.mark.parametrize("normalise", ["both", "support", "none"])
def test_full_context_is_what_is_compared(normalise):
    e, learner = episode(), matching(fce=True, processing_steps=3, normalise=normalise)
    g, f = learner.context(e.support.x, e.query.x)
    inside = Episode(Examples(g, e.support.y), Examples(f, e.query.y), 3)
    torch.testing.assert_close(learner(e), matching(normalise=normalise)(inside))
    assert not torch.allclose(learner(e), matching(normalise=normalise)(e), atol=1e-2)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.run.__name__)
@pytest.mark.parametrize(
    "options",
    [{"fce": True}, {"distance": "l2", "temperature": 2.0}, {"normalise": "both"}],
)
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
        ({"normalise": "query"}, "normalise query: choose from both, support, none"),
        ({"processing_steps": 0}, "processing_steps 0: expected at least 1"),
        ({"temperature": 0.0}, "temperature 0.0: expected a number above 0, or null"),
        ({"temperature": float("nan")}, "temperature nan: expected"),
    ],
)
def test_bad_options_are_named(options, says):
    with pytest.raises(UsageError, match=says):
        matching(**options)

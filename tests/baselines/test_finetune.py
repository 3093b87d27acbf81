"""The learners that have nothing but a pre-trained encoder, against numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import episode_of
from zoo import Episode, Examples
from zoo.baselines.finetune import FineTune
from zoo.baselines.pretrained import Pretrained
from zoo.errors import UsageError


class Pixels(nn.Module):
    """Features are the pixels."""

    features = 9

    def forward(self, x):
        return x.flatten(1)


def episode(shot=3, tasks=2):
    support, query, way = episode_of(way=4, shot=shot, query=5, tasks=tasks, image=(1, 3, 3))
    return Episode(Examples(support.x.double(), support.y), query._replace(x=query.x.double()), way)


def arrays(batch, t):
    """z (N*K, D), one-hot labels (N*K, N) and the queries (N*Q, D) of a task."""
    x, y = (part[t].numpy() for part in batch.support)
    return x.reshape(len(x), -1), np.eye(4)[y], batch.query.x[t].flatten(1).numpy()


def softmax(logits):
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def unit(v):
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_a_linear_head_is_logistic_regression_by_gradient_descent():
    batch, learner = episode(), FineTune(Pixels(), 4, head_lr=0.3, head_steps=7)
    got = learner(batch)
    for t in range(2):
        z, labels, queries = arrays(batch, t)
        w, b = np.zeros((4, 9)), np.zeros(4)
        for _ in range(7):
            wrong = (softmax(z @ w.T + b) - labels) / len(z)
            w, b = w - 0.3 * wrong.T @ z, b - 0.3 * wrong.sum(0)
        assert np.allclose(got[t], queries @ w.T + b, atol=1e-10)


def test_a_cosine_head_starts_from_the_class_means():
    batch = episode()
    got = FineTune(Pixels(), 4, head="cosine", head_steps=0)(batch)
    for t in range(2):
        z, labels, queries = arrays(batch, t)
        means = labels.T @ z / labels.sum(0)[:, None]
        assert np.allclose(got[t], 10 * unit(queries) @ unit(means).T, atol=1e-10)


def test_a_cosine_head_goes_down_the_gradient():
    """d cos(z, w) / dw = (z/|z| - cos w/|w|) / |w|."""
    batch = episode()
    got = FineTune(Pixels(), 4, head="cosine", head_lr=0.3, head_steps=3)(batch)
    for t in range(2):
        z, labels, queries = arrays(batch, t)
        w = unit(labels.T @ z)
        for _ in range(3):
            cosines = unit(z) @ unit(w).T
            wrong = 10 * (softmax(10 * cosines) - labels) / len(z)
            lengths = np.linalg.norm(w, axis=1, keepdims=True)
            along = (wrong * cosines).sum(0)[:, None] * unit(w)
            w = w - 0.3 * (wrong.T @ unit(z) - along) / lengths
        assert np.allclose(got[t], 10 * unit(queries) @ unit(w).T, atol=1e-9)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_nearest_class_means(distance):
    batch, learner = episode(), Pretrained(Pixels(), 4, distance=distance)
    got = learner(batch)
    for t in range(2):
        z, labels, queries = arrays(batch, t)
        means = labels.T @ z / labels.sum(0)[:, None]
        expected = -((queries[:, None] - means) ** 2).sum(-1)
        if distance == "cosine":
            expected = 10 * unit(queries) @ unit(means).T
        assert np.allclose(got[t], expected, atol=1e-10)


@pytest.mark.parametrize("learner", [Pretrained, FineTune])
def test_the_encoder_is_frozen(learner):
    made = learner(nn.Linear(2, 2), 4)
    assert not any(p.requires_grad for p in made.parameters())


def test_no_graph_is_kept_of_the_fit():
    with torch.enable_grad():
        assert not FineTune(Pixels(), 4)(episode()).requires_grad


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FineTune(Pixels(), 4, head="mlp"), "--head mlp: choose from linear, cosine"),
        (
            lambda: Pretrained(Pixels(), 4, distance="l1"),
            "--distance l1: choose from cosine, euclidean",
        ),
    ],
)
def test_bad_options_are_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()

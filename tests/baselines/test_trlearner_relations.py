"""Relations of tasks, pairings of their classes, and what tasks are worth training on."""

import itertools

import numpy as np
import pytest
import torch

from zoo.baselines.trlearner import TaskRelations, aligned, strongest
from zoo.methods.embedding import prototypes
from zoo.methods.task_scores import EPSILON, SIGMA, difficulty, diversity, entropy, hardest


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_relations_equal_numpys():
    """Eq. 4; symmetric, with a unit diagonal."""
    relations, g = TaskRelations(6, heads=3).double(), numbers(5, 6) + 10
    m = relations(g).detach().numpy()
    w, expected = relations.weights.detach().numpy(), np.zeros((5, 5))
    centred = g.numpy() - g.numpy().mean(0)
    for i, j in itertools.product(range(5), repeat=2):
        a, b = w * centred[i], w * centred[j]
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        expected[i, j] = cosine.mean()
    np.testing.assert_allclose(m, expected, rtol=1e-12)
    np.testing.assert_allclose(m, m.T, rtol=1e-12)
    np.testing.assert_allclose(np.diag(m), 1, rtol=1e-12)


def test_relations_tell_tasks_apart_whose_features_are_all_positive():
    """Their cosines would be 0.99 and more, whatever the heads."""
    g = 5 + numbers(8, 64).abs()
    m = TaskRelations(64, heads=4).double()(g)
    others = m[~torch.eye(8, dtype=torch.bool)]
    assert others.max() - others.min() > 0.3


def test_two_tasks_have_each_others_whole_say():
    m = TaskRelations(6, heads=3).double()(numbers(2, 6))
    torch.testing.assert_close(m, 2 * torch.eye(2, dtype=m.dtype) - 1)
    others, weights = strongest(m, 4)
    assert others.tolist() == [[1], [0]] and weights.tolist() == [[1], [1]]


def test_equal_tasks_have_an_even_say_and_a_finite_gradient():
    relations = TaskRelations(6, heads=3).double()
    _, weights = strongest(relations(torch.ones(4, 6).double()), None)
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 3))
    weights[:, 0].sum().backward()
    assert relations.weights.grad is not None and relations.weights.grad.isfinite().all()


def test_relations_leave_others_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    TaskRelations(4, 2)
    assert torch.equal(torch.rand(2), expected)


def test_the_strongest_relations_weigh_by_a_softmax():
    m = torch.tensor(
        [[1.0, 0.6, 0.2, -0.5], [0.6, 1.0, -0.1, 0.3], [0.2, -0.1, 1.0, -0.4], [-0.5, 0.3, -0.4, 1]]
    )
    others, weights = strongest(m, 2)
    assert others.tolist() == [[1, 2], [0, 3], [0, 1], [1, 2]]
    for row, apart in zip(weights, [0.4, 0.3, 0.3, 0.7], strict=True):
        expected = np.array([1, np.exp(-10 * apart)]) / (1 + np.exp(-10 * apart))
        np.testing.assert_allclose(row, expected, rtol=1e-5)
    others, weights = strongest(m, None)
    assert others.shape == weights.shape == (4, 3)
    assert all(i not in row for i, row in enumerate(others.tolist()))
    torch.testing.assert_close(weights.sum(1), torch.ones(4))


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_paired_by_the_largest_summed_cosine(seed):
    """Against all permutations."""
    ours, theirs = numbers(2, 4, 6, seed=seed), numbers(2, 4, 6, seed=seed + 100)
    ways = aligned(ours, theirs)
    for a, b, found in zip(ours.numpy(), theirs.numpy(), ways.tolist(), strict=True):
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
        best = max(
            itertools.permutations(range(4)),
            key=lambda p: sum(a[i] @ b[j] for i, j in enumerate(p)),
        )
        assert found == list(best)


def features(way=3, shot=4, size=7):
    """(2, N*K, D) in random order, and their classes."""
    y = torch.stack([torch.randperm(way * shot) % way for _ in range(2)])
    return numbers(2, way * shot, size) + 2 * y.unsqueeze(-1), y


def test_scores_equal_numpys():
    z, y = features()
    scores = diversity(z), entropy(z, y, 3), difficulty(z, y, 3)
    for t in range(2):
        columns = z[t].numpy().T
        columns = columns / np.linalg.norm(columns, axis=0)
        d, n = columns.shape
        det = np.linalg.slogdet(np.eye(d) + columns @ columns.T / (n * SIGMA**2))[1]
        np.testing.assert_allclose(scores[0][t], n / 2 * det)
        total = 0.0
        for j in range(3):
            members = np.diag((y[t].numpy() == j).astype(float))
            tr = np.trace(members)
            inside = np.eye(d) + columns @ members @ columns.T / (tr * EPSILON**2)
            total += tr / (2 * n) * np.linalg.slogdet(inside)[1]
        np.testing.assert_allclose(scores[1][t], total)


def test_difficulty_is_the_squared_gradient():
    z, y = features()
    z = torch.nn.functional.normalize(z, dim=-1)
    c = prototypes(z, y, 3)
    x = z.clone().requires_grad_()
    logits = -(x.unsqueeze(2) - c.unsqueeze(1)).square().sum(-1)
    loss = torch.nn.functional.cross_entropy(logits.mT, y, reduction="sum")
    (g,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(difficulty(z, y, 3), g.square().sum(-1))


def test_hardest_keeps_half_of_each_class():
    z, y = features(shot=3)
    scores, kept = difficulty(z, y, 3), hardest(z, y, 3)
    assert kept.shape == (2, 6, 7)
    for t, k in itertools.product(range(2), range(3)):
        of_class = z[t][y[t] == k]
        best = of_class[scores[t][y[t] == k].topk(2).indices]
        torch.testing.assert_close(kept[t, 2 * k : 2 * k + 2], best)

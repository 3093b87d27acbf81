"""CNP against numpy, written from the paper's equations."""

import math

import numpy as np
import pytest
import torch

from tests.conftest import episode_of
from zoo import Episode, Examples
from zoo.baselines.cnp import CNP
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone
from zoo.runs.plan import Plan
from zoo.runs.request import RunRequest

IMAGE = (1, 16, 16)


def points(tasks: int = 3, shot: int = 6, query: int = 5, outputs: int = 2, seed: int = 0):
    """Functions of two numbers, float64."""
    g = torch.Generator().manual_seed(seed)
    sizes = [(tasks, n, d) for n in (shot, query) for d in (2, outputs)]
    a, b, c, d = (torch.randn(*size, generator=g, dtype=torch.float64) for size in sizes)
    return Episode(Examples(a, b), Examples(c, d), outputs)


def regressor(outputs: int = 2, **options) -> CNP:
    torch.manual_seed(0)
    backbone = build_backbone("mlp[width=7,depth=3]", (2,))
    options = {"decoder": "mlp[width=6,depth=2]", **options}
    return CNP(backbone, outputs, aggregate="all", **options).double()


def apart() -> CNP:
    """Averages within classes, which regression does not have."""
    return CNP(build_backbone("mlp", (2,)), 2, aggregate="class")


def layers(net, x, last_is_linear=True):
    """A network of affine maps with ReLU between them, in numpy: (n, D) -> (n, O)."""
    arrays = [p.detach().numpy() for p in net.parameters()]
    pairs = list(zip(arrays[::2], arrays[1::2], strict=True))
    for number, (weight, bias) in enumerate(pairs):
        x = x @ weight.T + bias
        if number < len(pairs) - 1 or not last_is_linear:
            x = np.maximum(x, 0)
    return x


def expected(learner: CNP, support, query, t: int):
    """Mean and deviation of a task's queries, equation by equation."""
    x, y, x_query = (part[t].numpy() for part in (*support, query.x))
    r_i = layers(learner.net, np.concatenate([x, y], 1))  # (eq. 1)
    r = r_i.mean(0)  # (eq. 2)
    phi = np.stack([layers(learner.g, np.concatenate([x_j, r])) for x_j in x_query])  # (eq. 3)
    mean, raw = np.split(phi, 2, axis=1)
    return mean, 0.1 + 0.9 * np.log1p(np.exp(raw))


def log_density(mean, sd, y):
    """Of a point, all its outputs: (n,)."""
    return np.log(np.exp(-((y - mean) ** 2) / (2 * sd**2)) / (sd * math.sqrt(2 * math.pi))).sum(1)


def test_the_distribution_follows_the_equations():
    learner, e = regressor(), points()
    mean, sd = learner.distribution(e)
    assert torch.equal(learner(e), mean)
    for t in range(e.tasks):
        wanted = expected(learner, e.support, e.query, t)
        np.testing.assert_allclose(mean[t].detach().numpy(), wanted[0], rtol=1e-10)
        np.testing.assert_allclose(sd[t].detach().numpy(), wanted[1], rtol=1e-10)


def test_evaluation_has_the_likelihood_beside_the_error():
    learner, e = regressor(), points()
    metrics, prediction = learner.evaluate(e)
    assert metrics.keys() == {"mse", "nll"} and torch.equal(prediction, learner(e))
    for t in range(e.tasks):
        mean, sd = expected(learner, e.support, e.query, t)
        y = e.query.y[t].numpy()
        assert metrics["mse"][t].item() == pytest.approx(((mean - y) ** 2).mean())
        assert metrics["nll"][t].item() == pytest.approx(-log_density(mean, sd, y).mean())


def test_training_predicts_all_points_from_contexts_of_every_size():
    learner, e = regressor(min_context=2), points(shot=6)
    target = Examples(*(torch.cat(pair, 1) for pair in zip(e.support, e.query, strict=True)))

    def loss(size: int) -> float:
        context = Examples(*(part[:, :size] for part in e.support))
        return float(np.mean([
            -log_density(*expected(learner, context, target, t), target.y[t].numpy()).mean()
            for t in range(e.tasks)
        ]))  # fmt: skip

    wanted = [loss(size) for size in range(2, 7)]
    drawn = [learner.meta_loss(e).item() for _ in range(60)]
    which = [int(np.abs(np.array(wanted) - value).argmin()) for value in drawn]
    np.testing.assert_allclose(drawn, np.array(wanted)[which], rtol=1e-9)
    assert set(which) == set(range(5))


def test_the_context_sizes_follow_from_torchs_generator():
    """Which checkpoints save: a resumed run draws what an undisturbed one draws."""
    learner, e = regressor(), points()
    torch.manual_seed(3)
    first = [learner.meta_loss(e).item() for _ in range(8)]
    torch.manual_seed(3)
    assert first == [learner.meta_loss(e).item() for _ in range(8)] and len(set(first)) > 1


def test_the_order_of_the_context_does_not_matter():
    learner, e = regressor(), points()
    shuffled = Examples(*(part[:, [4, 2, 0, 5, 1, 3]] for part in e.support))
    for before, after in zip(
        learner.distribution(e), learner.distribution(e._replace(support=shuffled)), strict=True
    ):
        torch.testing.assert_close(before, after)


@pytest.mark.parametrize(
    ("cosine", "rates"), [(True, [1, (1 + math.sqrt(0.5)) / 2, 0.5, 0]), (False, [1, 1, 1, 1])]
)
def test_the_rate_falls_by_a_cosine(cosine, rates):
    learner = regressor(cosine=cosine)
    assert [learner.anneal(part) for part in (0, 0.25, 0.5, 1)] == pytest.approx(rates)


def test_no_deviation_is_below_the_least():
    learner = regressor(min_sd=0.3)
    with torch.no_grad():
        learner.g.head.bias.fill_(-50)
    _, sd = learner.distribution(points())
    torch.testing.assert_close(sd, torch.full_like(sd, 0.3))


def test_the_gradient_of_the_loss_is_right():
    learner, e = regressor(outputs=1), points(outputs=1, tasks=1, shot=2)  # always both
    assert torch.autograd.gradcheck(
        lambda y: learner.meta_loss(e._replace(support=Examples(e.support.x, y))),
        e.support.y.requires_grad_(),
    )


def test_classes_are_averaged_apart_and_laid_side_by_side():
    torch.manual_seed(0)
    backbone = build_backbone("mlp[width=4,depth=1]", IMAGE)
    learner, e = CNP(backbone, 5, aggregate="class").eval(), episode_of(image=IMAGE)
    logits = learner(e).detach().numpy()
    for t in range(e.tasks):
        x, y, x_query = (part[t].numpy() for part in (*e.support, e.query.x))
        h = layers(learner.net, x.reshape(len(x), -1), last_is_linear=False)
        r = np.concatenate([h[y == c].mean(0) for c in range(5)])
        h_query = layers(learner.net, x_query.reshape(len(x_query), -1), last_is_linear=False)
        for j, z in enumerate(h_query):
            np.testing.assert_allclose(
                logits[t, j], layers(learner.g, np.concatenate([z, r])), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: regressor(min_context=0), "min_context 0: expected"),
        (lambda: regressor(min_sd=1.0), "min_sd 1.0: expected a number between"),
        (lambda: regressor(decoder="mlp[depht=1]"), "no option 'depht'"),
        (lambda: regressor(decoder="conv4"), "conv4: needs images"),
        (lambda: CNP(build_backbone("mlp", (2,)), 1, aggregate="some"), "choose from class, all"),
        (
            lambda: Plan(RunRequest("cnp[aggregate=all]", "glyphs")),
            "aggregate all: .* use backbone=mlp",
        ),
        (lambda: apart()(points()), "these tasks need aggregate=all"),
        (lambda: apart().meta_loss(points()), "need aggregate=all"),
        (lambda: regressor().meta_loss(episode_of()), "these tasks need aggregate=class"),
        (lambda: regressor().evaluate(episode_of()), "these tasks need aggregate=class"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(call, says):
    with pytest.raises(UsageError, match=says) as error:
        call()
    assert "\n" not in str(error.value)


def test_what_is_embedded_alone():
    assert CNP(build_backbone("conv4_strided", IMAGE), 5).embeds_alone
    learner = regressor()
    assert not learner.embeds_alone and not learner.joint_tasks and not learner.transductive


def test_it_learns_functions():
    """Lines through the origin: the slope is in any one point."""
    torch.manual_seed(0)
    learner = CNP(build_backbone("mlp[width=32,depth=2]", (1,)), 1, aggregate="all")
    optimizer = torch.optim.Adam(learner.parameters(), 3e-3)
    for _ in range(300):
        x, slope = torch.rand(32, 8, 1) * 2 - 1, torch.randn(32, 1, 1)
        parts = [Examples(x[:, half], slope * x[:, half]) for half in (slice(4), slice(4, 8))]
        optimizer.zero_grad()
        learner.meta_loss(Episode(*parts, 1)).backward()
        optimizer.step()
    metrics, _ = learner.evaluate(Episode(*parts, 1))
    assert metrics["mse"].mean() < 0.2 * parts[1].y.var()

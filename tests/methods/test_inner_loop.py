"""The inner loop: its meta-gradient against finite differences, folding against looping."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.conftest import episode_of
from zoo import InnerOptimizer, adapt, call
from zoo.errors import UsageError
from zoo.losses import task_cross_entropy
from zoo.methods.inner_loop import with_the_scale_of
from zoo.networks.backbone import Classifier, build_backbone

IMAGE = (2, 16, 16)


def network(text: str = "conv4[channels=3]") -> nn.Module:
    torch.manual_seed(0)
    net = Classifier(build_backbone(text, IMAGE), 3).double()
    for norm in net.backbone.norms:  # negative scales too
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias, 0, 0.3)
    return net


def batch(tasks: int = 2):
    e = episode_of(way=3, shot=2, query=2, tasks=tasks, image=IMAGE)
    return e._replace(
        support=e.support._replace(x=e.support.x.double()),
        query=e.query._replace(x=e.query.x.double()),
    )


def outer_loss(net: nn.Module, e, lr: float = 0.3, **options) -> torch.Tensor:
    optimizer = InnerOptimizer(lr, **options)
    theta = adapt(net, e.support, task_cross_entropy, optimizer, steps=3)
    return task_cross_entropy(call(net, theta, e.query.x), e.query.y).mean()


@pytest.mark.parametrize("text", ["conv4[channels=3]", "conv4_strided[channels=3]"])
def test_the_meta_gradient_is_exact(text):
    """Against central differences in float64, along random directions in all parameters.

    The step is small enough that no ReLU or maximum changes sides on the way.
    """
    net, e = network(text), batch()
    outer_loss(net, e).backward()
    g = torch.Generator().manual_seed(3)
    for _ in range(3):
        direction = [torch.randn(p.shape, generator=g).double() for p in net.parameters()]
        ours = sum((p.grad * d).sum() for p, d in zip(net.parameters(), direction, strict=True))
        values = []
        for step in (1e-7, -1e-7):
            moved = network(text)
            with torch.no_grad():
                for p, d in zip(moved.parameters(), direction, strict=True):
                    p.add_(step * d)
            values.append(outer_loss(moved, e).item())
        theirs = (values[0] - values[1]) / 2e-7
        assert ours.item() == pytest.approx(theirs, rel=1e-6, abs=1e-7)


def test_all_tasks_at_once_equal_one_by_one():
    """Folding tasks into channels, against a network that does not offer it."""
    net, e = network(), batch(tasks=3)
    outer_loss(net, e).backward()
    folded = [p.grad for p in net.parameters()]
    net.zero_grad()
    net.folds = False
    outer_loss(net, e).backward()
    for one, p in zip(folded, net.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad, rtol=1e-9, atol=1e-12)


def test_first_order_equals_second_where_there_is_no_curvature():
    net = nn.Linear(4, 3).double()
    x, y = torch.randn(2, 5, 4).double(), torch.randint(3, (2, 5))

    def linear_loss(logits, y):
        return (logits * torch.arange(3.0).double()).sum((1, 2))

    grads = []
    for first_order in (True, False):
        net.zero_grad()
        optimizer = InnerOptimizer(0.1, first_order=first_order)
        theta = adapt(net, (x, y), linear_loss, optimizer, steps=2)
        call(net, theta, x).square().sum().backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two)


def test_first_order_differs_from_second_where_there_is():
    net, e = network(), batch()
    outer_loss(net, e, first_order=True).backward()
    first = torch.cat([p.grad.flatten() for p in net.parameters()])
    net.zero_grad()
    outer_loss(net, e).backward()
    second = torch.cat([p.grad.flatten() for p in net.parameters()])
    assert (first - second).norm() > 1e-3 * second.norm()


def test_a_step_without_a_rate_is_joint_training():
    net, e = network(), batch()
    outer_loss(net, e, lr=0.0).backward()
    adapted = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    losses = [nn.functional.cross_entropy(net(x), y) for x, y in zip(*e.query, strict=True)]
    (sum(losses) / len(losses)).backward()
    for one, p in zip(adapted, net.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad)


def test_two_steps_by_hand():
    """L = (w x - y)^2 / 2 with x = 2, y = 1: w' = w - lr x (w x - y)."""
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(net.weight, 3.0)
    x, y = torch.full((1, 1, 1), 2.0).double(), torch.ones(1, 1).double()

    def half_square(z, y):
        return (z.squeeze(-1) - y).square().sum(1) / 2

    theta = adapt(net, (x, y), half_square, InnerOptimizer(0.1), steps=2)
    w = 3.0
    for _ in range(2):
        w -= 0.1 * 2 * (w * 2 - 1)
    assert theta["weight"].shape == (1, 1, 1)
    assert theta["weight"].item() == pytest.approx(w)
    theta["weight"].sum().backward()
    assert net.weight.grad.item() == pytest.approx((1 - 0.1 * 4) ** 2)  # dw'/dw


def test_running_statistics_do_not_move_in_inner_steps():
    net, e = network(), batch()
    for norm in net.backbone.norms:
        norm.mode = "running"
    before = net.backbone.norms[0].running_mean.clone()
    theta = adapt(net, e.support, task_cross_entropy, InnerOptimizer(0.1), steps=2)
    assert torch.equal(net.backbone.norms[0].running_mean, before)
    call(net, theta, e.query.x)
    assert not torch.equal(net.backbone.norms[0].running_mean, before)


def test_with_a_reference_a_loss_cannot_change_the_length_of_steps():
    """A multiple of the reference takes the reference's steps; what is at right angles acts."""
    net, e = network(), batch()

    def adapted(losses, **options):
        return adapt(net, e.support, losses, InnerOptimizer(0.3, **options), steps=3)

    def tripled(logits, y):
        return 3 * task_cross_entropy(logits, y)

    def other(logits, y):
        return task_cross_entropy(logits, y) + logits.square().mean((1, 2))

    plain = adapted(task_cross_entropy)
    same = adapted(tripled, reference=task_cross_entropy)
    for name, value in plain.items():
        torch.testing.assert_close(same[name], value, rtol=1e-9, atol=1e-12)
    steered = adapted(other, reference=task_cross_entropy)
    assert max((steered[name] - value).abs().max() for name, value in plain.items()) > 1e-3
    g, along = torch.randn(2, 2, 4, 3).double()
    kept = with_the_scale_of(g, along)
    lengths = (kept * along).sum((1, 2)), along.square().sum((1, 2))
    torch.testing.assert_close(*lengths)
    torch.testing.assert_close(with_the_scale_of(kept, along), kept)
    torch.testing.assert_close(with_the_scale_of(g, 0 * along), g)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.3), (0.9, 0.0), (0.9, 0.3)])
def test_momentum_and_decay_are_those_of_torchs_sgd(momentum, decay):
    net = nn.Linear(4, 3).double()
    x, y = torch.randn(2, 5, 4).double(), torch.randint(3, (2, 5))
    options = {"lr": 0.2, "momentum": momentum, "weight_decay": decay}
    theta = adapt(net, (x, y), task_cross_entropy, InnerOptimizer(**options), steps=4)
    for t in range(2):
        one = copy.deepcopy(net)
        optimizer = torch.optim.SGD(one.parameters(), **options, nesterov=bool(momentum))
        for _ in range(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(one(x[t]), y[t]).backward()
            optimizer.step()
        for name, p in one.named_parameters():
            torch.testing.assert_close(theta[name][t], p, rtol=1e-9, atol=1e-12)


def penalty(theta):
    return theta["head.weight"].pow(4).sum((1, 2))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_meta_gradient_through_momentum_decay_and_penalty_is_exact(momentum):
    net, e = network(), batch(2)
    options = {"momentum": momentum, "weight_decay": 0.3, "penalty": penalty}
    outer_loss(net, e, **options).backward()
    g = torch.Generator().manual_seed(3)
    along = [torch.randn(p.shape, generator=g).double() for p in net.parameters()]
    ours = sum((p.grad * v).sum().item() for p, v in zip(net.parameters(), along, strict=True))
    values = []
    for step in (1e-7, -2e-7):
        for p, v in zip(net.parameters(), along, strict=True):
            p.data += step * v
        with torch.no_grad():
            values.append(outer_loss(net, e, **options).item())
    assert ours == pytest.approx((values[0] - values[1]) / 2e-7, rel=1e-5)


def test_the_adjoint_form_has_decay_and_penalty_but_no_momentum():
    net, e, grads = network(), batch(2), []
    for memory in ("full", "low"):
        net.zero_grad()
        outer_loss(net, e, weight_decay=0.3, penalty=penalty, memory=memory).backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    for full, low in zip(*grads, strict=True):
        torch.testing.assert_close(full, low, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "none"}, "memory none: choose from full, low"),
        ({"memory": "low", "momentum": 0.9}, "memory low: has no momentum; use memory full"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused(options, message):
    """When it is made, and when it is made from another."""
    with pytest.raises(UsageError, match=message):
        InnerOptimizer(0.1, **options)
    with pytest.raises(UsageError, match=message):
        replace(InnerOptimizer(0.1), **options)

"""ANIL, Meta-SGD and T-Net: what makes each of them MAML, and what sets it apart."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import episode_of
from zoo import Episode
from zoo.baselines.anil import ANIL
from zoo.baselines.maml import MAML
from zoo.baselines.metasgd import MetaSGD
from zoo.baselines.tnet import TNetLearner
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone

IMAGE = (1, 16, 16)


class Pixels(nn.Module):
    """The identity for a body."""

    features = 256

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def build(cls: type[MAML], body: nn.Module | None = None, way: int = 3, **options) -> MAML:
    torch.manual_seed(0)
    body = body or build_backbone("conv4_strided[channels=4]", IMAGE)
    options = {"inner_steps": 2, "test_steps": 3, **options}
    return cls(body, way, **options).double()


def episode(tasks: int = 3) -> Episode:
    e = episode_of(way=3, tasks=tasks, image=IMAGE)
    s, q = (part._replace(x=part.x.double()) for part in e[:2])
    return Episode(s, q, e.way)


def agree(one: MAML, other: MAML) -> None:
    """In the loss, in its gradient and in evaluation."""
    e = episode()
    losses = [learner.meta_loss(e) for learner in (one, other)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    for name, p in one.net.named_parameters():
        torch.testing.assert_close(p.grad, other.net.get_parameter(name).grad)
    torch.testing.assert_close(one.eval()(e), other.eval()(e))


def test_anil_with_an_identity_for_a_body_is_maml():
    agree(build(ANIL, Pixels(), inner_lr=0.02), build(MAML, Pixels(), inner_lr=0.02))


@pytest.mark.parametrize("batch_norm", ["batch", "support"])
def test_meta_sgd_with_one_rate_for_all_is_maml(batch_norm):
    options = {"batch_norm": batch_norm, "clip": None}
    agree(
        build(MetaSGD, rate_low=0.3, rate_high=0.3, **options),
        build(MAML, inner_lr=0.3, **options),
    )


@pytest.mark.parametrize("batch_norm", ["batch", "support"])
def test_a_tnet_starts_as_maml(batch_norm):
    options = {"batch_norm": batch_norm, "inner_lr": 0.3}
    agree(build(TNetLearner, **options), build(MAML, **options))


def test_meta_sgd_draws_its_rates():
    rates = torch.cat([r.flatten() for r in build(MetaSGD).precondition.rates])
    assert 0.005 <= rates.min() < 0.01 and 0.095 < rates.max() <= 0.1
    with pytest.raises(UsageError, match=r"rate_low 0\.2: must not be above"):
        build(MetaSGD, rate_low=0.2)


def test_anil_sees_each_image_once():
    learner = build(ANIL, inner_steps=5)
    seen: list[int] = []
    learner.net.backbone.register_forward_hook(lambda m, x, y: seen.append(x[0].shape[-4]))
    learner(episode())
    assert seen == [6, 9]
    learner = build(ANIL, inner_steps=5, batch_norm="support")
    learner.net.backbone.register_forward_hook(lambda m, x, y: seen.append(x[0].shape[-4]))
    learner(episode())
    assert seen == [6, 9, 15]


def test_anil_adapts_the_head_alone():
    learner = build(ANIL, inner_lr=0.5)
    (z_support, _), (z_query, _), _ = learner.encode(episode())
    w, b = (p.detach() for p in learner.net.head.parameters())
    y = nn.functional.one_hot(episode().support.y, 3).double()
    for t in range(3):
        wt, bt, z = w, b, z_support[t].detach()
        for _ in range(2):  # the gradient of the mean cross-entropy by hand
            error = ((z @ wt.T + bt).softmax(-1) - y[t]) / len(z)
            wt, bt = wt - 0.5 * error.T @ z, bt - 0.5 * error.sum(0)
        torch.testing.assert_close(learner(episode())[t], z_query[t] @ wt.T + bt)


@pytest.mark.parametrize(("tasks", "batch_norm"), [(1, "batch"), (3, "support")])
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (ANIL, {"inner_lr": 0.5}),
        (MetaSGD, {"rate_low": 0.1, "rate_high": 0.5}),
        (TNetLearner, {"inner_lr": 0.3}),
        (MAML, {"inner_lr": 0.3, "step_rates": True, "multi_step": True}),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_the_meta_gradient_is_exact(cls, options, tasks, batch_norm):
    """In both forms, against a central difference along a random direction in all parameters."""
    learner, e = build(cls, batch_norm=batch_norm, **options), episode(tasks)
    grads = []
    for memory in ("full", "low"):
        learner.inner_optimizer = replace(learner.inner_optimizer, memory=memory)
        learner.zero_grad()
        learner.meta_loss(e).backward()
        grads.append([p.grad for p in learner.parameters()])
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)
    g = torch.Generator().manual_seed(3)
    along = [torch.randn(p.shape, generator=g).double() for p in grads[0]]
    values = []
    for step in (1e-7, -2e-7):
        for p, d in zip(learner.parameters(), along, strict=True):
            p.data += step * d
        values.append(learner.meta_loss(e).item())
    ours = sum((grad * d).sum().item() for grad, d in zip(grads[0], along, strict=True))
    assert ours == pytest.approx((values[0] - values[1]) / 2e-7, rel=1e-5, abs=1e-7)

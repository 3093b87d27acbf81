"""MAML's own promises."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.conftest import episode_of
from zoo.baselines.maml import MAML
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.networks.backbone import build_backbone

IMAGE = (1, 16, 16)


def maml(**options) -> MAML:
    torch.manual_seed(0)
    return MAML(build_backbone("conv4_strided[channels=8]", IMAGE), 5, **options)


def test_adapting_lowers_the_support_loss():
    learner, e = maml(inner_lr=0.5, test_steps=10), episode_of(image=IMAGE)
    own = e._replace(query=e.support)
    learner.eval()
    with torch.no_grad():
        after = learner.evaluate(own)[0]["nll"]
        learner.test_steps = 0
        before = learner.evaluate(own)[0]["nll"]
    assert (after < before - 0.1).all()


def test_training_and_test_take_their_own_numbers_of_steps():
    learner, e = maml(inner_steps=1, test_steps=4), episode_of(image=IMAGE)
    training = learner(e).detach()
    learner.eval()
    assert not torch.allclose(learner(e), training)
    learner.test_steps = 1
    torch.testing.assert_close(learner(e), training)


def test_the_outer_gradient_is_clipped_by_value():
    learner = maml(clip=1e-3)
    learner.meta_loss(episode_of(image=IMAGE)).backward()
    assert max(p.grad.abs().max() for p in learner.parameters()) > 1e-3
    learner.configure_gradient_clipping(torch.optim.SGD(learner.parameters(), 0.1))
    assert max(p.grad.abs().max() for p in learner.parameters()) == pytest.approx(1e-3)


def test_the_support_mode_is_inductive():
    assert maml().transductive
    assert not maml(batch_norm="support").transductive


def test_step_rates_start_at_the_inner_rate_and_are_learned():
    e, plain = episode_of(image=IMAGE), maml(inner_lr=0.3, inner_steps=2)
    learner = maml(inner_lr=0.3, inner_steps=2, step_rates=True)
    torch.testing.assert_close(learner(e), plain(e))
    learner.meta_loss(e).backward()
    rates = learner.precondition.rates
    assert rates.shape == (2, len(list(plain.parameters()))) and (rates.grad != 0).all()
    nn.init.zeros_(rates)
    torch.testing.assert_close(learner(e), maml(inner_steps=0)(e))


@pytest.mark.parametrize("memory", ["full", "low"])
def test_a_query_loss_after_every_step(memory):
    """Their mean at first; after 15 % of the updates the last one alone."""
    e = episode_of(image=IMAGE)
    losses = [task_loss(maml(inner_lr=0.3, inner_steps=s)(e), e.query.y).mean() for s in (1, 2, 3)]
    learner = maml(inner_lr=0.3, inner_steps=3, multi_step=True, memory=memory)
    torch.testing.assert_close(learner.meta_loss(e), sum(losses) / 3)
    for updates, weights in ((75, (1 / 6, 1 / 6, 4 / 6)), (150, (0, 0, 1))):
        trained = {
            "global_step": updates,
            "trainer": SimpleNamespace(estimated_stepping_batches=1000),
        }
        learner.__class__ = type("Trained", (MAML,), trained)
        expected = sum(w * loss for w, loss in zip(weights, losses, strict=True))
        torch.testing.assert_close(learner.meta_loss(e), expected)


def test_a_query_loss_after_no_step_is_refused():
    with pytest.raises(UsageError, match="multi_step: needs inner_steps"):
        maml(multi_step=True, inner_steps=0)

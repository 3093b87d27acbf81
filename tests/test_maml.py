"""MAML's own promises."""

import pytest
import torch

from baselines.maml import MAML
from tests.conftest import episode_of
from zoo.backbones import build_backbone

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

"""Evolution strategies, and the random numbers that the networks of tasks start from."""

import pytest
import torch

from tests.conftest import episode_of
from zoo.baselines.blur import BLUR
from zoo.baselines.vsml import VSML
from zoo.conformance import Maker
from zoo.conformance.resuming import resumes
from zoo.errors import UsageError
from zoo.methods.learned_rule import Draw, evolved_loss
from zoo.networks.backbone import build_backbone

IMAGE = (1, 28, 28)


def test_the_gradient_of_evolution_is_that_of_a_quadratic():
    """Of |A p - b|^2 the antithetic difference is exact along epsilon; the mean converges."""
    torch.manual_seed(0)
    p = {"p": torch.randn(2, 3, dtype=torch.float64).requires_grad_()}
    a, b = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

    def losses(rules):
        return (rules["p"] @ a.T - b).square().sum(-1)

    pairs = 200_000
    of_rules, loss = evolved_loss(losses, p, pairs, 0.05)
    (found,) = torch.autograd.grad(loss, p["p"])
    expected = 2 * (p["p"] @ a.T - b) @ a / 2  # of the mean over the two rules
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(loss, of_rules.mean())
    spread = 0.05**2 * a.square().sum()  # what noise adds to the loss, on average
    torch.testing.assert_close(of_rules, (losses(p) + spread).detach(), rtol=1e-3, atol=1e-3)


def test_the_gradient_of_evolution_follows_that_of_backpropagation():
    """With many pairs on the same tasks, little noise and the same start."""
    torch.manual_seed(0)
    backbone = build_backbone("pixels14", IMAGE)
    learner = BLUR(backbone, 3, species=1, hidden=4, rate=0.1, steps=2).double()
    x, query = torch.randn(2, 1, 3, 8, dtype=torch.float64)  # eight features
    y = torch.tensor([[0, 1, 2]])
    started = learner.start(1, 8, 3, Draw(x, fresh=True))

    def losses(rules):
        rule = {name: numbers.flatten(0, 1) for name, numbers in rules.items()}
        n = len(rule["pre"])
        network = [part.expand(n, *part.shape[1:]) for part in started]
        wide = (part.expand(n, *part.shape[1:]) for part in (x, y, query))
        logits, _ = learner.answers(rule, network, *wide, 3)
        return learner.task_losses(logits, y.expand(n, -1)).unflatten(0, (2, -1))

    numbers = learner.numbers()
    _, evolved = evolved_loss(losses, numbers, 4000, 1e-3)
    by_evolution = flat(torch.autograd.grad(evolved, [*numbers.values()]))
    alone = {name: p.unsqueeze(1) for name, p in numbers.items()}
    twice = {name: torch.cat([p, p]) for name, p in alone.items()}
    by_backpropagation = flat(torch.autograd.grad(losses(twice).mean(), [*numbers.values()]))
    cosine = torch.nn.functional.cosine_similarity(by_evolution, by_backpropagation, dim=0)
    assert cosine > 0.98
    assert by_evolution.norm() / by_backpropagation.norm() == pytest.approx(1, abs=0.15)


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def test_evolution_keeps_no_graph_and_repeats_with_its_seed():
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        learner = BLUR(build_backbone("pixels14", IMAGE), 5, species=2, evolution=True)
        loss = learner.meta_loss(episode_of(tasks=3))
        loss.backward()
        found.append([p.grad for p in learner.rules.parameters()])
        assert learner.recent_loss.min() > 0
    assert all(torch.equal(a, b) and a.any() for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("cls", [BLUR, VSML])
def test_a_population_learns_every_number_that_backpropagation_learns(cls):
    found = []
    for evolution in (False, True):
        torch.manual_seed(0)
        learner = cls(build_backbone("pixels14", IMAGE), 5, evolution=evolution, noise=0.2)
        learner.meta_loss(episode_of(5, 1, 1, tasks=3)).backward()
        found.append({name for name, p in learner.named_parameters() if p.grad is not None})
        assert all(p.grad.isfinite().all() for p in learner.parameters() if p.grad is not None)
    normalised = {name for name in found[0] if "_scale" in name or "_offset" in name}
    assert found[1] == found[0] - normalised and len(found[1]) >= 6


@pytest.mark.full
def test_a_killed_evolution_ends_as_an_undisturbed_one(monkeypatch):
    monkeypatch.setattr("zoo.conformance.resuming.BACKBONE", "pixels14")
    for key in ("blur", "vsml"):
        resumes(Maker(key, {"evolution": True}, backbone="pixels14"))


def test_evolution_needs_a_backbone_with_nothing_to_learn():
    with pytest.raises(UsageError, match="evolution=true: a population differs in the rule alone"):
        BLUR(build_backbone("conv4_strided", IMAGE), 5, evolution=True)


def test_who_draws():
    like = torch.zeros(0, dtype=torch.float64)
    used = [Draw(like, fresh=False) for _ in range(2)]
    state = torch.get_rng_state()
    assert torch.equal(used[0].uniform(2, 3), used[1].uniform(2, 3))
    assert torch.equal(torch.get_rng_state(), state)
    fresh = [Draw(like, fresh=True).uniform(2, 3) for _ in range(2)]
    assert not torch.equal(*fresh) and fresh[0].dtype == torch.float64
    drawn = Draw(like, fresh=True).normal(20_000)
    assert drawn.abs().max() <= 2 and drawn.std() == pytest.approx(0.88, abs=0.02)

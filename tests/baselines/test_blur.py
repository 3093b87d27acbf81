"""BLUR's own promises: with the right genome it is gradient descent; its equations by hand."""

import pytest
import torch
from torch.nn import functional as F

from tests.conftest import episode_of
from zoo.baselines.blur import BLUR
from zoo.baselines.blur_network import (
    BACKPROPAGATION,
    BIDIRECTIONAL,
    Genome,
    backward_pass,
    first_synapses,
    forward_pass,
    gradient_genome,
    update_synapses,
)
from zoo.errors import UsageError
from zoo.methods.learned_rule import Draw
from zoo.networks.backbone import build_backbone

IMAGE = (1, 28, 28)


def blur(way=5, **options) -> BLUR:
    torch.manual_seed(0)
    return BLUR(build_backbone("pixels14", IMAGE), way, **{"species": 1, **options}).double()


def rule_of(genome: Genome) -> dict:
    return {name: p.detach().double().unsqueeze(0) for name, p in genome.named_parameters()}


def network(states=2, symmetric=False, sizes=(6, 4, 3), tasks=2) -> list:
    torch.manual_seed(1)
    like = torch.empty(0, dtype=torch.float64)
    return first_synapses(sizes, states, symmetric, tasks, Draw(like, fresh=True))


@pytest.mark.parametrize("sizes", [(6, 3), (6, 4, 3), (6, 5, 4, 3)])
def test_the_genome_of_gradient_descent_takes_its_steps(sizes):
    """A sigmoid network with biases, softmax cross-entropy, three steps, each task by itself."""
    step, tasks, n = 0.75, 2, 8  # a step that float32 holds exactly
    rule, synapses = rule_of(gradient_genome(step)), network(1, True, sizes, tasks)
    x, y = torch.randn(tasks, n, sizes[0], dtype=torch.float64), torch.randint(3, (tasks, n))
    weights = [w.squeeze(1).clone() for w in synapses[::2]]
    for _ in range(3):
        neurons = forward_pass(rule, BACKPROPAGATION, synapses, x)
        error = neurons[-1][:, 0].softmax(-1) - F.one_hot(y, 3)
        neurons[-1] = torch.stack([neurons[-1][:, 0], error], 1)
        neurons = backward_pass(rule, BACKPROPAGATION, synapses, neurons)
        synapses = update_synapses(rule, BACKPROPAGATION, synapses, neurons)
        weights = [w.detach().requires_grad_() for w in weights]
        z = x
        for place, w in enumerate(weights):
            z = F.pad(z.sigmoid() if place else z, (0, 1), value=1.0) @ w
        loss = F.cross_entropy(z.mT, y, reduction="none").mean(1).sum()
        weights = [
            w - step * g for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)
        ]
        for found, expected in zip(synapses[::2], weights, strict=True):
            torch.testing.assert_close(found.squeeze(1), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("loss", "scale"), [("cross_entropy", 10.0), ("mse", 1.0)])
def test_the_learner_takes_a_gradient_step_of_its_loss_on_the_support(loss, scale):
    """Of the loss that the outer loop has; of a squared one, of its half."""
    learner = blur(genome="gradient", rate=0.25, steps=1, loss=loss)
    batch = episode_of(5, 2, 3, tasks=2)
    (x, query), y = learner.inputs(batch.to(torch.float64)), batch.support.y
    like = torch.empty(0, dtype=torch.float64)
    started = learner.start(2, x.shape[-1], 5, Draw(like, fresh=True))
    first, second = (started[place].squeeze(1).detach().requires_grad_() for place in (0, 2))

    def predict(x, first, second):
        hidden = (F.pad(x, (0, 1), value=1.0) @ first).sigmoid()
        return F.pad(hidden, (0, 1), value=1.0) @ second

    z = predict(x, first, second)
    if loss == "mse":
        inner = (z - (2 * F.one_hot(y, 5) - 1)).square().sum(-1).mean(1).sum() / 2
    else:
        inner = F.cross_entropy((scale * z).mT, y, reduction="none").mean(1).sum()
    gradients = torch.autograd.grad(inner, (first, second))
    moved = [w - 0.25 * g for w, g in zip((first, second), gradients, strict=True)]
    expected = scale * predict(query, *moved)
    found, _ = learner.answers(learner.numbers(), started, x, y, query, 5)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_how_many_numbers_a_genome_has():
    """4 k^2 + 4."""
    for states, count in ((2, 20), (3, 40)):
        assert sum(p.numel() for p in Genome(states, 1e-3).parameters()) == count
        assert blur(states=states, species=3).parameter_count() == 3 * count
    first = Genome(2, -1e-3)
    others = ("neuron_keep", "neuron_update", "synapse_keep", "synapse_update")
    assert [getattr(first, name).item() for name in others] == pytest.approx([1, 1, 1, -1e-3])


def test_synapses_stay_where_the_update_is_nothing():
    rule, synapses = rule_of(Genome(2, 0.0)), network()
    x = torch.randn(2, 8, 6, dtype=torch.float64)
    neurons = forward_pass(rule, BIDIRECTIONAL, synapses, x)
    after = update_synapses(rule, BIDIRECTIONAL, synapses, neurons)
    assert all(torch.equal(a, b) for a, b in zip(after, synapses, strict=True))


def test_symmetric_synapses_stay_symmetric():
    rule, synapses = rule_of(gradient_genome(0.5)), network(1, symmetric=True)
    neurons = forward_pass(rule, BACKPROPAGATION, synapses, torch.randn(2, 8, 6).double())
    forward, backward, *_ = update_synapses(rule, BACKPROPAGATION, synapses, neurons)
    assert torch.equal(backward, forward.mT) and not torch.equal(forward, synapses[0])


def test_equations_by_hand():
    """One neuron a layer and two states: numbers that were computed with pencil and paper."""
    rule = {
        "forward_mix": torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]),
        "backward_mix": torch.tensor([[[0.5, 0.0], [1.0, 1.0]]]),
        "pre": torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]),
        "post": torch.tensor([[[0.0, 1.0], [3.0, 0.0]]]),
        "neuron_keep": torch.tensor([0.5]),
        "neuron_update": torch.tensor([1.0]),
        "synapse_keep": torch.tensor([0.9]),
        "synapse_update": torch.tensor([0.1]),
    }
    plain = BIDIRECTIONAL._replace(hidden=lambda z: z, last=lambda z: z, backward=lambda z: z)
    # Of the bias, state 0 mixes to 1 and state 1 to 3.
    forward = [torch.tensor([[[[2.0], [1.0]], [[1.0], [0.0]]]]), torch.ones(1, 2, 2, 1)]
    backward = [torch.zeros(1, 2, 1, 2), torch.tensor([[[[1.0, 9.0]], [[2.0, 9.0]]]])]
    synapses = [forward[0], backward[0], forward[1], backward[1]]
    neurons = forward_pass(rule, plain, synapses, torch.tensor([[[3.0]]]))
    # Inputs (3, 0) mix to (3, 6); hidden: 3*2 + 1*1 = 7 and 6*1 + 3*0 = 6.
    assert neurons[1].flatten().tolist() == [7.0, 6.0]
    # Hidden (7, 6) mixes to (7, 14 + 6); last: 7 + 1 = 8 and 20 + 3 = 23.
    assert neurons[2].flatten().tolist() == [8.0, 23.0]
    neurons[2] = torch.tensor([8.0, -1.0]).view(1, 2, 1, 1)
    # (8, -1) mixes to (4 - 1, -1); to the hidden one 3*1 and -1*2; with half of (7, 6).
    after = backward_pass(rule, plain, synapses, neurons)
    assert after[1].flatten().tolist() == [3.5 + 3.0, 3.0 - 2.0]
    changed = update_synapses(rule, plain, synapses, after)
    # pre of hidden (6.5, 1): (6.5, 2), of the bias (1, 2); post of last (8, -1): (-1, 3*8).
    expected = [0.9 + 0.1 * -6.5, 0.9 + 0.1 * -1.0, 0.9 + 0.1 * 48.0, 0.9 + 0.1 * 48.0]
    assert changed[2].flatten().tolist() == pytest.approx(expected)
    # Backward: pre of last (8, -2); post of hidden (1, 19.5) and of the bias (1, 3).
    expected = [0.9 + 0.8, 8.1 + 0.8, 1.8 - 0.2 * 19.5, 8.1 - 0.2 * 3.0]
    assert changed[3].flatten().tolist() == pytest.approx(expected)


def test_permuted_pixels_with_permuted_synapses_give_the_same_logits():
    learner, batch = blur(rate=0.5), episode_of(5, 2, 3, tasks=2)
    (x, query), y = learner.inputs(batch.to(torch.float64)), batch.support.y
    started = learner.start(2, 196, 5, Draw(x, fresh=True))
    order = torch.randperm(196)
    with_bias = torch.cat([order, torch.tensor([196])])
    permuted = [started[0][:, :, with_bias], started[1][..., with_bias], *started[2:]]
    rule = learner.numbers()
    expected, _ = learner.answers(rule, started, x, y, query, 5)
    found, _ = learner.answers(rule, permuted, x[..., order], y, query[..., order], 5)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    other, _ = learner.answers(rule, started, x[..., order], y, query[..., order], 5)
    assert not torch.allclose(other, expected, atol=1e-3)


def test_permuted_labels_with_permuted_synapses_permute_the_logits():
    learner, batch = blur(rate=0.5), episode_of(5, 2, 3, tasks=2)
    (x, query), y = learner.inputs(batch.to(torch.float64)), batch.support.y
    started = learner.start(2, 196, 5, Draw(x, fresh=True))
    new = torch.tensor([3, 0, 4, 1, 2])  # the number that each label gets
    old = new.argsort()
    permuted = [*started[:2], started[2][..., old], started[3][:, :, old]]
    rule = learner.numbers()
    expected, _ = learner.answers(rule, started, x, y, query, 5)
    found, _ = learner.answers(rule, permuted, x, new[y], query, 5)
    torch.testing.assert_close(found[..., new], expected, rtol=1e-10, atol=1e-12)


def test_one_genome_serves_any_number_of_shots_and_ways():
    """A support that is there twice says no more than once, because updates are means."""
    learner, batch = blur(rate=0.5), episode_of(5, 1, 3, tasks=2).to(torch.float64)
    x, y = batch.support
    twice = batch._replace(support=type(batch.support)(torch.cat([x, x], 1), torch.cat([y, y], 1)))
    torch.testing.assert_close(learner(twice), learner(batch), rtol=1e-9, atol=1e-11)
    other = episode_of(8, 3, 2, tasks=2).to(torch.float64)
    assert learner(other).shape == (2, 16, 8)


def test_species_learn_side_by_side_and_the_best_is_tested():
    learner, batch = blur(species=3, rate=0.5), episode_of(tasks=2).to(torch.float64)
    torch.manual_seed(4)
    loss = learner.meta_loss(batch)
    loss.backward()
    recent = learner.recent_loss.clone()
    assert (recent > 0).all() and recent.unique().numel() == 3
    torch.testing.assert_close(recent.mean() / 0.05, loss.detach(), rtol=1e-6, atol=0)
    for best, genome in enumerate(learner.rules):
        learner.recent_loss.fill_(1.0)[best] = 0.5
        alone = blur(rate=0.5)
        alone.rules[0].load_state_dict(genome.state_dict())
        torch.testing.assert_close(learner(batch), alone(batch))
        torch.manual_seed(4)  # the same networks to start from
        one = alone.meta_loss(batch)
        one.backward()
        for p, q in zip(genome.parameters(), alone.rules[0].parameters(), strict=True):
            torch.testing.assert_close(3 * p.grad, q.grad)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"genome": "best"}, "genome best: choose from random, gradient"),
        ({"loss": "hinge"}, "loss hinge: choose from"),
        ({"states": 1}, "states 1: expected at least 2"),
        ({"genome": "gradient", "states": 3}, "genome of gradient descent has 2"),
        ({"species": 0}, "species 0: expected a number of at least 1"),
        ({"hidden": 0}, "hidden 0: expected"),
        ({"depth": -1}, "depth -1: expected"),
        ({"steps": -1}, "steps -1: expected"),
        ({"noise": 0.0}, "noise 0.0: expected a number above 0"),
    ],
)
def test_bad_settings(options, says):
    with pytest.raises(UsageError, match=says):
        blur(**options)

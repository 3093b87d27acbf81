"""Reptile's own promises."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

import zoo.runs.checkpoints
from tests.conftest import episode_of
from tests.runs.test_run import SMALL, KilledError, kill_at, numbers, plan
from zoo import Episode, Examples
from zoo.baselines.reptile import BETA2, Reptile, minibatches
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.methods.inner_loop import task_gradients
from zoo.networks.backbone import Classifier, build_backbone
from zoo.runs.run import Run

IMAGE = (1, 16, 16)


def reptile(backbone: str = "conv4_strided[channels=4]", **options) -> Reptile:
    torch.manual_seed(0)
    return Reptile(build_backbone(backbone, IMAGE), 5, **options).double()


def episode(**shape) -> Episode:
    e = episode_of(image=IMAGE, **shape)
    return Episode(*(Examples(part.x.double(), part.y) for part in e[:2]), e.way)


def vector(learner: Reptile) -> torch.Tensor:
    return parameters_to_vector(learner.net.parameters()).detach()


def outer_gradient(learner: Reptile, e: Episode) -> torch.Tensor:
    learner.zero_grad()
    learner.meta_loss(e).backward()
    return parameters_to_vector([p.grad for p in learner.net.parameters()])


def trained_by_torch(learner: Reptile, e: Episode, steps: int):
    """Each task's weights by PyTorch's own optimiser, one Adam through all tasks: (T, P)."""
    net = copy.deepcopy(learner.net)
    phi = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, betas=(0.0, 0.999), eps=1e-8)
    found = []
    for x, y in zip(*e.support, strict=True):
        net.load_state_dict(phi)
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        found.append(parameters_to_vector(net.parameters()).detach())
    return torch.stack(found), optimizer


def test_the_outer_gradient_is_the_mean_way_back_from_trained_weights():
    """Adam with beta1 = 0 is PyTorch's, its second moments carried from task to task."""
    learner, e = reptile(inner_steps=3, inner_batch=99), episode(tasks=3)
    found, adam = trained_by_torch(learner, e, 3)
    expected = vector(learner) - found.mean(0)
    torch.testing.assert_close(outer_gradient(learner, e), expected, rtol=1e-9, atol=1e-12)
    v = torch.cat([state["exp_avg_sq"].flatten() for state in adam.state.values()])
    torch.testing.assert_close(learner.second_moment, v, rtol=1e-9, atol=0)
    assert learner.inner_updates == 9
    one_adam_a_task = [task(e, t) for t in range(3)]
    fresh = torch.cat([trained_by_torch(learner, one, 3)[0] for one in one_adam_a_task])
    assert (fresh - found).abs().max() > 1e-4


def test_counting_updates_in_a_tensor_changes_no_bit():
    """Adam's correction, of a count on the device, is in float32 what Python's numbers give."""
    v = torch.linspace(0.1, 1, 7)
    for step in [*range(1, 200), 999, 5_000, 20_000, 40_000, 4_000_000]:
        count = torch.tensor(step).double()
        assert torch.equal(v / (1 - BETA2**count), v / (1 - BETA2**step)), step


def task(e: Episode, t: int) -> Episode:
    parts = [Examples(part.x[t : t + 1], part.y[t : t + 1]) for part in e[:2]]
    return Episode(*parts, e.way)


def test_half_the_squared_distance_is_the_loss():
    learner, e = reptile(inner_steps=2, inner_batch=99), episode(tasks=2)
    found, _ = trained_by_torch(learner, e, 2)
    expected = ((vector(learner) - found) ** 2).sum(1).mean() / 2
    assert learner.meta_loss(e).item() == pytest.approx(expected.item(), rel=1e-9)


def test_one_step_of_plain_sgd_is_joint_training():
    learner, e = reptile(inner_steps=1, inner_batch=99, inner_lr=0.3, adam=False), episode()
    net = copy.deepcopy(learner.net)
    losses = [torch.nn.functional.cross_entropy(net(x), y) for x, y in zip(*e.support, strict=True)]
    joint = torch.autograd.grad(torch.stack(losses).mean(), list(net.parameters()))
    expected = 0.3 * torch.cat([g.flatten() for g in joint])
    torch.testing.assert_close(outer_gradient(learner, e), expected)
    assert not learner.second_moment.any()


def test_an_outer_step_goes_all_the_way_at_first_and_nowhere_at_last():
    learner = reptile()
    assert [learner.anneal(done) for done in (0, 0.25, 1)] == [1, 0.75, 0]
    learner = reptile(inner_steps=2, inner_batch=99)
    e = episode(tasks=2)
    found, _ = trained_by_torch(learner, e, 2)
    outer_gradient(learner, e)
    learner.outer_optimizer(learner.parameters(), lr=1.0).step()
    torch.testing.assert_close(vector(learner), found.mean(0))


def test_a_test_starts_from_the_carried_moments_and_leaves_them():
    learner, e = reptile(inner_steps=2, test_steps=4, test_batch=99), episode(tasks=3)
    fresh = learner(e)
    learner.meta_loss(e)
    before = learner.second_moment.clone()
    carried = learner(e)
    assert not torch.allclose(carried, fresh)
    assert torch.equal(learner.second_moment, before) and learner.inner_updates == 6
    net = copy.deepcopy(learner.net)
    x, y = e.support.x[1], e.support.y[1]
    adam = torch.optim.Adam(net.parameters(), 1e-3, betas=(0.0, 0.999))
    parts = before.split([p.numel() for p in net.parameters()])
    for p, part in zip(net.parameters(), parts, strict=True):
        adam.state[p] = {
            "step": torch.tensor(6.0),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": part.view_as(p).clone(),
        }
    for _ in range(4):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        adam.step()
    torch.testing.assert_close(carried[1], net(e.query.x[1]))


def test_minibatches_pass_through_the_support():
    assert minibatches(5, 3, 4, shuffle=False).tolist() == [
        [0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1],
    ]  # fmt: skip
    assert minibatches(4, 10, 2, shuffle=False).tolist() == [[0, 1, 2, 3]] * 2
    torch.manual_seed(3)
    first, other = (minibatches(6, 4, 3, shuffle=True) for _ in range(2))
    assert not torch.equal(first, other)
    for one_pass in first.flatten().split(6):
        assert sorted(one_pass.tolist()) == list(range(6))
    torch.manual_seed(3)
    assert torch.equal(minibatches(6, 4, 3, shuffle=True), first)


def test_a_step_sees_its_minibatch_only():
    learner, e = reptile(test_steps=1, test_batch=5), episode(tasks=1)
    other = e._replace(support=Examples(e.support.x.clone(), e.support.y))
    other.support.x[:, 5:] += 1
    assert torch.equal(learner(other), learner(e))
    learner.test_steps = 2
    assert not torch.allclose(learner(other), learner(e))


def test_a_test_draws_no_random_numbers():
    learner, e = reptile(test_batch=3, test_steps=4), episode()
    before = torch.get_rng_state()
    learner(e)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_transduction_a_query_joins_the_support_alone():
    learner, e = reptile(transductive=False, test_batch=99, test_steps=3).eval(), episode(tasks=2)
    assert not learner.transductive and reptile().transductive
    logits = learner(e)
    few = e._replace(query=Examples(e.query.x[:, 4:6], e.query.y[:, 4:6]))
    torch.testing.assert_close(learner(few), logits[:, 4:6])
    net = copy.deepcopy(learner.net)
    own = task(e, 0)
    found, _ = trained_by_torch(learner, own, 3)
    torch.nn.utils.vector_to_parameters(found[0], net.parameters())
    alone = net(torch.cat([own.support.x[0], own.query.x[0, 4:5]]))[-1]
    torch.testing.assert_close(logits[0, 4], alone)
    together = net(own.query.x[0])[4]
    assert not torch.allclose(logits[0, 4], together)


def test_without_batch_norm_transduction_is_the_same():
    e = episode()
    one, other = (reptile("mlp[width=8]", transductive=t, test_steps=4) for t in (True, False))
    assert not one.transductive
    assert torch.equal(one(e), other(e))


def test_gradients_are_each_tasks_own():
    torch.manual_seed(0)
    net = Classifier(build_backbone("conv4_strided[channels=4]", IMAGE), 5).double()
    e = episode(tasks=3)
    theta = {n: p.expand(3, *p.shape) * torch.rand(3, *[1] * p.dim()) for n, p in
             net.named_parameters()}  # fmt: skip
    with torch.inference_mode():
        found = task_gradients(net, theta, e.support, task_loss)
    for t in range(3):
        own = copy.deepcopy(net)
        own.load_state_dict({n: p[t] for n, p in theta.items()}, strict=False)
        torch.nn.functional.cross_entropy(own(e.support.x[t]), e.support.y[t]).backward()
        for name, p in own.named_parameters():
            torch.testing.assert_close(found[name][t], p.grad)


@pytest.mark.parametrize("name", ["inner_steps", "inner_batch", "test_steps", "test_batch"])
def test_counts_are_at_least_one(name):
    with pytest.raises(UsageError, match=rf"^{name} 0: expected a number of at least 1$"):
        reptile(**{name: 0})


def test_a_killed_run_keeps_its_moments(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)
    flags = {**SMALL, "updates": 6, "val_episodes": 8, "test_episodes": 8, "micro_batch": 2}
    flags |= {"train_shot": 3, "inner_steps": 2, "test_steps": 3}
    runs: list[Run] = [
        plan(tmp_path / name, stores, "reptile", flags=flags) for name in ("whole", "killed")
    ]
    runs[0].execute(progress=False)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_train_batch_end", 5)
        runs[1].execute(progress=False)
    again = plan(tmp_path / "killed", stores, "reptile", flags=flags)
    record = again.execute(progress=False)
    assert 0 < record["updates"]["executed_by_this_process"] < 6
    expected, got = numbers(runs[0]), numbers(again)
    assert expected["second_moment"].any() and expected["inner_updates"] > 0
    for name, value in expected.items():
        assert np.array_equal(got[name], value), name

"""MetaNet's own promises."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

import zoo.baselines.metanet
from tests.conftest import episode_of
from zoo import Episode, Examples
from zoo.baselines.metanet import MetaNet
from zoo.errors import UsageError
from zoo.methods.inner_loop import gradient_of
from zoo.networks.backbone import build_backbone

IMAGE = (1, 12, 12)


def metanet(backbone: str = "conv5[channels=4]", **options) -> MetaNet:
    torch.manual_seed(0)
    options = {"hidden": 6, "units": 3, **options}
    return MetaNet(build_backbone(backbone, IMAGE), 3, **options).double()


def episode(shot: int = 1, tasks: int = 2) -> Episode:
    e = episode_of(way=3, shot=shot, query=2, tasks=tasks, image=IMAGE)
    return Episode(*(Examples(part.x.double(), part.y) for part in e[:2]), 3)


def silenced(learner: MetaNet) -> MetaNet:
    """Whatever makes fast weights, makes zeros."""
    for net in (learner.m.layers[-1], learner.d and learner.d.out, learner.d_base):
        for p in [] if net is None else net.parameters():
            torch.nn.init.zeros_(p)
    return learner


@pytest.mark.parametrize("variant", [None, "minus", "plus"])
@pytest.mark.parametrize("shot", [1, 2])
def test_without_fast_weights_it_is_the_slow_learner(variant, shot):
    learner, e = silenced(metanet(variant=variant)), episode(shot)
    slow = []
    for x in e.query.x:
        for conv in learner.net.first.convs:
            x = F.max_pool2d(F.relu(F.conv2d(x, conv.weight, padding=1)), 2, ceil_mode=True)
        kernel, hidden, head = learner.base.layers(learner.base.weights)
        x = F.relu(F.conv2d(x, kernel.view(4, 4, 3, 3), padding=1))
        x = F.max_pool2d(x, 2, ceil_mode=True).flatten(1)
        slow.append(F.relu(x @ hidden.T) @ head.T)
    torch.testing.assert_close(learner(e), torch.stack(slow))


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("variant", [None, "plus"])
@pytest.mark.parametrize("shot", [1, 2])
def test_the_meta_gradient(detach, variant, shot, monkeypatch):
    """Against central differences in float64; detached, of gradients that are held constant."""
    options = {"detach": detach, "variant": variant, "p": 1.0}
    learner, e = metanet(**options), episode(shot)
    large(learner)
    held = []

    def recorded(*args, **options):
        held.append(gradient_of(*args, **options))
        return held[-1]

    monkeypatch.setattr(zoo.baselines.metanet, "gradient_of", recorded)
    learner.meta_loss(e).backward()
    monkeypatch.undo()
    g = torch.Generator().manual_seed(3)
    direction = [torch.randn(p.shape, generator=g).double() for p in learner.parameters()]
    ours = sum(
        (p.grad * d).sum() for p, d in zip(learner.parameters(), direction, strict=True)
    ).item()
    values = []
    for step in (1e-7, -1e-7):
        moved = large(metanet(**options))
        with torch.no_grad():
            for p, d in zip(moved.parameters(), direction, strict=True):
                p.add_(step * d)
        if detach:
            constants = iter([gradient.detach() for gradient in held])
            monkeypatch.setattr(zoo.baselines.metanet, "gradient_of", partial(replay, constants))
        values.append(moved.meta_loss(e).item())
    theirs = (values[0] - values[1]) / 2e-7
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-7)


def replay(constants, *_, **__):
    return next(constants)


def large(learner: MetaNet) -> MetaNet:
    """Weights at which gradients matter to what is made of them."""
    g = torch.Generator().manual_seed(1)
    for name, p in learner.named_parameters():
        torch.nn.init.normal_(p, 0, 0.0 if name.endswith("bias") else 0.5, generator=g)
    return learner


def test_a_query_is_classified_by_the_memory_that_it_reads():
    """One query by hand: softmax of cosines over the support, and the mixed weights in b."""
    learner, e = large(metanet()), episode()
    z, z_u = torch.cat(learner.embed(e), 1).chunk(2, -1)
    memory = learner.m(learner.example_gradients(learner.base, z[:, :3], e.support.y))
    assert memory.shape == (2, 3, len(learner.base.weights))
    r = learner.represent(z_u, e.support.y, 3)[1]  # of the second task
    cosines = torch.stack([F.cosine_similarity(r[4], r[i], dim=0) for i in range(3)])
    a = cosines.exp() / cosines.exp().sum()
    assert a.max() > a.min() + 1e-3
    fast = sum(a[i] * memory[1, i] for i in range(3))
    _, logits = learner.base(z[1:, 4:5], learner.base.weights, fast)
    torch.testing.assert_close(learner(e)[1, 1], logits[0, 0])


def test_task_level_weights_see_the_support_alone():
    """Fewer queries, or more draws than there are examples, change nothing."""
    learner, e = large(metanet(draws=100)), episode()
    fewer = e._replace(query=Examples(e.query.x[:, :1], e.query.y[:, :1]))
    torch.testing.assert_close(learner(fewer), learner(e)[:, :1])
    assert not torch.allclose(large(metanet(draws=1))(e), learner(e), atol=1e-9)


def test_only_task_level_weights_depend_on_the_order():
    e = episode()
    flipped = e._replace(support=Examples(e.support.x.flip(1), e.support.y.flip(1)))
    for variant in ("minus", None, "plus"):
        learner = large(metanet(variant=variant))
        same = torch.allclose(learner(e), learner(flipped), rtol=1e-6, atol=1e-9)
        assert same != learner.sequential


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"variant": "both"}, "variant both: choose from null, minus, plus"),
        ({"hidden": 0}, "hidden 0: expected a number of at least 1"),
        ({"units": 0}, "units 0: expected"),
        ({"draws": 0}, "draws 0: expected"),
        ({"fast_convs": -1}, "fast_convs -1: expected a number from 0 to 5"),
        ({"fast_convs": 6}, "fast_convs 6: expected a number from 0 to 5"),
    ],
)
def test_bad_options_are_named(options, says):
    with pytest.raises(UsageError) as error:
        metanet(**options)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_the_outer_gradient_is_clipped_by_norm():
    learner = large(metanet(clip=1e-4))
    learner.meta_loss(episode()).backward()
    learner.configure_gradient_clipping(torch.optim.SGD(learner.parameters(), 0.1))
    norms = torch.stack([p.grad.norm() for p in learner.parameters()])
    assert norms.norm().item() == pytest.approx(1e-4, rel=1e-3)

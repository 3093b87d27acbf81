"""NPBML's known answers, in float64."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conftest import episode_of
from zoo import Episode, Examples
from zoo.baselines.npbml import NPBML
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone

IMAGE, WAY, SHOT = (1, 16, 16), 3, 2


def npbml(backbone: str = "conv4_strided[channels=4]", std: float | None = None, **options):
    """A learner away from where it starts; what it learns of losses and FiLM by `std`."""
    torch.manual_seed(0)
    learner = NPBML(build_backbone(backbone, IMAGE), WAY, **options).double()
    for name, p in learner.named_parameters():
        if "norm" in name and "film" not in name:
            nn.init.normal_(p, 1, 0.3)
        if std is not None and ("film" in name or name.startswith("losses")):
            nn.init.normal_(p, 0, std)
    return learner


def batch(tasks: int = 1, seed: int = 0) -> Episode:
    e = episode_of(way=WAY, shot=SHOT, query=2, tasks=tasks, image=IMAGE, seed=seed)
    support, query = (Examples(x.double(), y) for x, y in e[:2])
    return Episode(support, query, WAY)


def gradients(learner: NPBML, e: Episode) -> dict[str, Tensor]:
    learner.zero_grad()
    learner.meta_loss(e).backward()
    return {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}


def maml_by_hand(learner: NPBML, e: Episode) -> Tensor:
    """MAML over the last convolution and the head, by plain layers; torch.optim.SGD's Nesterov.

    With a layer behind the last block, its batch norm alone, as which it starts.
    """
    body, head = learner.net.backbone, learner.net.head

    def normed(x, norm):
        return F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.1, 1e-5)

    def layer(x, weight, number):
        x = F.relu(normed(F.conv2d(x, weight, stride=2, padding=1), body.norms[number]))
        return normed(x, body.after[str(number)].norm) if str(number) in body.after else x

    x, rows = torch.cat([e.support.x, e.query.x], 1)[0], WAY * SHOT
    for number in range(3):
        x = layer(x, body.convs[number].weight, number)
    theta = [body.convs[3].weight, head.weight.expand(WAY, -1), head.bias.expand(WAY)]
    velocity = [torch.zeros_like(p) for p in theta]

    def logits(theta):
        return F.linear(layer(x, theta[0], 3).mean((2, 3)), *theta[1:])

    steps = learner.inner_optimizer
    for _ in range(learner.inner_steps):
        loss = F.cross_entropy(logits(theta)[:rows], e.support.y[0])
        g = torch.autograd.grad(loss, theta, create_graph=True)
        g = [gi + steps.weight_decay * p for gi, p in zip(g, theta, strict=True)]
        velocity = [steps.momentum * v + gi for v, gi in zip(velocity, g, strict=True)]
        g = [gi + steps.momentum * v for v, gi in zip(velocity, g, strict=True)]
        theta = [p - steps.lr * gi for p, gi in zip(theta, g, strict=True)]
    return logits(theta)[None, rows:]


ALL_OFF = {"loss": "none", "film": False, "warp": False}


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("options", [ALL_OFF, {}, {"preconditioner": "post_block"}])
def test_where_nothing_is_learned_it_is_maml_with_the_same_optimiser(options, frozen):
    """phi = psi = 0 and omega = 1: the same logits, and the same meta-gradient.

    Of a network with one more batch norm, where omega is behind the block.
    """
    learner = npbml(std=0.0, frozen=frozen, inner_lr=0.1, weight_decay=0.1, **options)
    e = batch()
    torch.testing.assert_close(learner(e), maml_by_hand(learner, e), rtol=1e-9, atol=1e-9)
    ours = gradients(learner, e)
    learner.zero_grad()
    F.cross_entropy(maml_by_hand(learner, e)[0], e.query.y[0]).backward()
    theirs = {n: p.grad for n, p in learner.named_parameters() if p.grad is not None}
    count = 5 if frozen else 14  # 3 of block 4 and 2 of the head; 9 of the others
    assert len(theirs) == count + 2 * len(learner.net.backbone.after)
    for name, grad in theirs.items():
        torch.testing.assert_close(ours[name], grad, rtol=1e-8, atol=1e-10)
        assert (grad.abs().max() > 1e-6) == ("head" not in name), name


def test_the_shared_row_of_the_head_learns_where_a_learned_loss_is_on():
    """Not by cross-entropies alone: what all ways have in common does not change a softmax."""
    e = batch()
    for loss, learns in (("none", False), ("support", True), ("query", True)):
        grads = gradients(npbml(std=0.1, loss=loss, inner_lr=0.1), e)
        for name in ("net.head.weight", "net.head.bias"):
            assert grads[name].abs().max() > 1e-7 if learns else grads[name].abs().max() < 1e-14
    grads = gradients(npbml(std=0.1, loss="regulariser", inner_lr=0.1), e)
    assert grads["net.head.weight"].abs().max() > 1e-7


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"frozen": False},
        {"scale_free": True},
        {"preconditioner": "post_block"},
        {"preconditioner": "element_rates", "inductive": True},
        {"backbone": "resnet12[channels=2]", "inner_steps": 2},
    ],
    ids=str,
)
def test_the_meta_gradient_is_exact(options):
    """Along random directions, in each group of what is learned."""
    learner, e = npbml(std=0.1, inner_lr=0.1, **{"inner_steps": 3, **options}), batch()
    for p in learner.precondition.parameters():
        p.data += 0.1 * torch.randn_like(p)
    grads = gradients(learner, e)
    g = torch.Generator().manual_seed(3)
    for group in ("net.backbone", "net.head", "after", "film", "losses.nets", "precondition"):
        mine = {n: p for n, p in learner.named_parameters() if group in n and p.requires_grad}
        along = {n: torch.randn(p.shape, generator=g).double() for n, p in mine.items()}
        values = []
        for step in (1e-7, -2e-7):
            for name, p in mine.items():
                p.data += step * along[name]
            with torch.no_grad():
                values.append(learner.meta_loss(e).item())
        for name, p in mine.items():
            p.data += 1e-7 * along[name]
        slope = sum((grads[name] * along[name]).sum().item() for name in mine)
        assert slope == pytest.approx((values[0] - values[1]) / 2e-7, rel=2e-5, abs=1e-7), group
        assert not mine or abs(slope) > 1e-6, group


@pytest.mark.parametrize(("loss", "acts"), [("support+query", False), ("all", True)])
def test_of_omegas_diagonal_only_the_regulariser_knows(loss, acts):
    """The norm behind omega takes it out of the steps too, with momentum, decay and FiLM."""
    learner, e = npbml(std=0.1, loss=loss, inner_lr=0.1), batch()
    for norm in learner.net.modules():
        norm.eps = 0.0
    before, (omega,) = learner(e), learner.precondition.transforms
    omega.data *= torch.tensor([0.5, 2, 3, 0.7])
    change = (learner(e) - before).abs().max()
    assert change > 1e-2 if acts else change < 1e-9
    omega.data[0, 1] += 0.5
    assert (learner(e) - before).abs().max() > 1e-2


@pytest.mark.parametrize("preconditioner", ["warp", "post_block"])
def test_meta_gradients_reach_everything_by_the_second_update(preconditioner):
    learner = npbml(preconditioner=preconditioner)
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], 1e-3)
    for seed in range(2):
        optimizer.zero_grad()
        learner.meta_loss(batch(2, seed)).backward()
        optimizer.step()
    names = [name for name, p in learner.named_parameters() if p.requires_grad]
    for name in names:
        assert learner.get_parameter(name).grad.abs().max() > 1e-12, name
    for part in ("film", "losses.nets.support", "losses.nets.query", "losses.nets.regulariser"):
        assert any(part in name for name in names)
    assert any("after" in name or "transforms" in name for name in names)


SWITCHES = {
    "film": {"film": False},
    "precondition": {"warp": False},
    "nets.support": {"loss": "query+regulariser"},
    "nets.query": {"loss": "support+regulariser"},
    "nets.regulariser": {"loss": "support+query"},
}


@pytest.mark.parametrize("part", SWITCHES)
def test_each_switch_takes_its_part_away(part):
    """And that part alone; where what it learned is nothing, switching it off changes nothing."""
    whole, without = (npbml(std=0.2, **options) for options in ({}, SWITCHES[part]))
    has = {name for name, p in whole.named_parameters() if p.requires_grad}
    left = {name for name, p in without.named_parameters() if p.requires_grad}
    assert has - left == {name for name in has if part in name} and left < has
    for p in whole.precondition.parameters():
        p.data += torch.randn_like(p)
    shared = {n: p for n, p in whole.state_dict().items() if n in without.state_dict()}
    without.load_state_dict(shared)
    e = batch()
    assert (without(e) - whole(e)).abs().max() > 1e-7
    for name, p in whole.named_parameters():
        if part in name and part != "precondition":
            nn.init.zeros_(p)
        elif part in name:
            nn.init.eye_(p)
    torch.testing.assert_close(without(e), whole(e), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("preconditioner", ["warp", "post_block"])
def test_the_inductive_variant_classifies_queries_one_by_one(preconditioner):
    e, learner = batch(), npbml(std=0.3, inductive=True, preconditioner=preconditioner).eval()
    assert not learner.transductive and learner.relations is None
    assert "query" not in learner.losses.nets
    together = learner(e)
    for n in range(together.shape[1]):
        one = e._replace(query=Examples(e.query.x[:, n : n + 1], e.query.y[:, n : n + 1]))
        torch.testing.assert_close(learner(one), together[:, n : n + 1], rtol=1e-9, atol=1e-9)
    both = npbml(std=0.3).eval()
    assert both.transductive
    alone = e._replace(query=Examples(e.query.x[:, :1], e.query.y[:, :1]))
    assert (both(alone) - both(e)[:, :1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "equivariant"),
    [
        ({"loss": "none"}, True),
        ({"loss": "regulariser"}, True),
        ({"loss": "all", "std": 0.0}, True),
        ({"loss": "support"}, False),
        ({"loss": "query"}, False),
    ],
    ids=str,
)
def test_relabelled_ways_permute_the_logits_where_nothing_reads_their_order(options, equivariant):
    learner, e = npbml(**{"std": 0.1, "inner_lr": 0.1, **options}), batch()
    assert learner.way_equivariant == (options["loss"] in ("none", "regulariser"))
    relabel = torch.tensor([2, 0, 1])
    other = e._replace(support=Examples(e.support.x, relabel[e.support.y]))
    difference = (learner(other)[..., relabel] - learner(e)).abs().max()
    assert difference < 1e-9 if equivariant else difference > 1e-6


@pytest.mark.parametrize("frozen", [True, False])
def test_relation_scores_are_of_the_encoder_as_it_came(frozen, monkeypatch):
    """Even where its first blocks learn."""
    learner, e, seen = npbml(outer_lr=0.1, frozen=frozen), batch(), []
    query = learner.losses.query
    monkeypatch.setattr(learner.losses, "query", lambda z, s: seen.append(s) or query(z, s))
    optimizer = torch.optim.Adam(learner.parameters(), 0.1)
    learner.meta_loss(e).backward()
    optimizer.step()
    learner(e)
    assert torch.equal(seen[-1], seen[0])
    assert seen[0].shape == (1, 6, WAY) and ((seen[0] > 0) & (seen[0] < 1)).all()


def test_hard_labels_change_the_prediction():
    plain, hard = (npbml(std=0.1, inner_lr=0.1, hard_labels=h)(batch()) for h in (False, True))
    assert (plain - hard).abs().max() > 1e-7


def test_frozen_blocks_stay_and_are_computed_once(monkeypatch):
    learner, e, calls = npbml(), batch(), []
    for number, conv in enumerate(learner.net.backbone.convs):
        monkeypatch.setattr(conv, "folded", lambda n=number, f=conv.folded: calls.append(n) or f())
    grads = gradients(learner, e)
    assert [calls.count(n) for n in range(4)] == [1, 1, 1, 6]
    frozen = [f"net.backbone.{kind}s.{n}" for kind in ("conv", "norm") for n in range(3)]
    assert not [name for name in grads if any(name.startswith(part) for part in frozen)]
    assert any(name.startswith(frozen[0]) for name in gradients(npbml(frozen=False), e))


def test_only_the_last_convolution_and_the_head_adapt():
    learner, e = npbml(preconditioner="post_block"), batch()
    theta = learner.adapt(torch.randn(1, 12, 4, 2, 2).double(), torch.rand(1, 6, WAY), e)
    own = dict(learner.net.named_parameters())
    moved = {n for n, p in theta.items() if p.shape[1:] != own[n].shape or (p[0] != own[n]).any()}
    assert moved == {"backbone.convs.3.weight", "head.weight", "head.bias"}
    assert theta["head.weight"].shape == (1, WAY, 4)


@pytest.mark.parametrize(
    "backbone",
    [*(f"conv4[channels={n}]" for n in (32, 48, 64, 128)), "resnet12[channels=4]"],
)
def test_its_networks(backbone):
    learner, e = npbml(backbone), batch(2)
    together = learner(e)
    assert together.shape == (2, 6, WAY)
    one = Episode(*(Examples(x[1:], y[1:]) for x, y in e[:2]), WAY)
    torch.testing.assert_close(learner(one), together[1:], rtol=1e-8, atol=1e-8)
    body = learner.net.backbone
    layers = len(body.layers(3)) + 1
    assert len(learner.net.weights) == layers == (2 if "conv4" in backbone else 5)
    assert learner.net.head.weight.shape == (1, body.widths[-1])


def test_the_pre_trained_encoder_is_the_one_that_came():
    body = build_backbone("conv4_strided[channels=4]", IMAGE)
    before = copy.deepcopy(body.state_dict())
    learner = NPBML(body, WAY)
    for name, value in before.items():
        for held in (learner.net.backbone, learner.relations.encoder):
            assert torch.equal(held.state_dict()[name], value)


def test_the_cosine_falls_to_a_tenth():
    learner = npbml(cosine=True)
    assert [learner.anneal(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1])
    assert npbml().anneal(0.7) == 1.0


def test_bad_input_is_named():
    with pytest.raises(UsageError, match="preconditioner: no 'wrap': choose from none, warp, post"):
        npbml(preconditioner="wrap")
    with pytest.raises(UsageError, match="relation: no 'net': choose from head, network"):
        npbml(relation="net")
    with pytest.raises(UsageError, match="loss: no component 'suport'"):
        npbml(loss="suport")
    with pytest.raises(UsageError, match="backbone: needs one of blocks"):
        NPBML(build_backbone("mlp", (3,)), WAY)

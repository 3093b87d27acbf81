"""VSML's own promises: its parameters, what must not matter, and what a cell and its layer do."""

import math

import pytest
import torch
from torch.nn import functional as F

from tests.conftest import episode_of
from zoo import Examples
from zoo.baselines.vsml import VSML
from zoo.baselines.vsml_cells import Cell, message, tick
from zoo.errors import UsageError
from zoo.methods.learned_rule import Draw
from zoo.networks.backbone import build_backbone

IMAGE = (1, 28, 28)
FEATURES = 12


def vsml(way=5, **options) -> VSML:
    """With parameters ten times as large, so that the few examples of a test change logits."""
    torch.manual_seed(0)
    small = {"size": 4, "message": 3, "layer_norm": False}
    learner = VSML(build_backbone("pixels14", IMAGE), way, **{**small, **options}).double()
    with torch.no_grad():
        for p in learner.rules.parameters():
            p.mul_(3.0).add_(0.1 * torch.randn_like(p))
    return learner


def task(tasks=2, way=5, shot=2, query=2):
    """Features (T, n, 12) and labels of support and query."""
    torch.manual_seed(1)
    x, q = (torch.randn(tasks, way * n, FEATURES, dtype=torch.float64) for n in (shot, query))
    return x, torch.arange(way).repeat(tasks, shot), q


def ask(learner, x, y, q, network=None, way=5, rule=None):
    if network is None:
        network = started(learner, len(x), way)
    return learner.answers(rule or learner.numbers(), network, x, y, q, way)


def started(learner, tasks=2, way=5):
    torch.manual_seed(2)
    like = torch.empty(0, dtype=torch.float64)
    return learner.start(tasks, FEATURES, way, Draw(like, fresh=True))


def test_the_papers_own_sizes():
    """2,384 numbers; 32 more with layer norm; whatever the image and the way."""
    for way, image in ((5, IMAGE), (20, (3, 84, 84))):
        backbone = build_backbone("pixels14", image)
        assert VSML(backbone, way, layer_norm=False).parameter_count() == 2384
        assert VSML(backbone, way).parameter_count() == 2416
        assert VSML(backbone, way, evolution=True).parameter_count() == 2384
    # A single layer learns nothing of what it sends back: (n + 1) m numbers.
    assert VSML(backbone, 5, layer_norm=False).parameter_count(learned=True) == 2384 - 136
    assert VSML(backbone, 5, layer_norm=False, hidden=3).parameter_count(learned=True) == 2384
    assert VSML(backbone, 5, size=8, message=4, layer_norm=False).parameter_count() == 616
    cell = dict(Cell(16, 8, layer_norm=False).named_parameters())
    assert {name: tuple(p.shape) for name, p in cell.items()} == {
        "from_forward": (8, 64),
        "from_backward": (8, 64),
        "from_state": (16, 64),
        "bias": (64,),
        "to_forward": (16, 8),
        "forward_bias": (8,),
        "to_backward": (16, 8),
        "backward_bias": (8,),
    }
    h, c, forward, backward = VSML(backbone, 5).start(3, 196, 5, Draw(torch.empty(0), fresh=True))
    assert h.shape == c.shape == (3, 196, 5, 16)
    assert forward.shape == (3, 196, 8) and backward.shape == (3, 5, 8)
    assert not h.any() and not c[..., 8:].any() and not forward.any() and not backward.any()
    assert c[..., :8].std() == pytest.approx(0.88 / 14, rel=0.02)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_one_tick_is_pytorchs_lstm_cell_and_means_of_its_outputs(layer_norm):
    torch.manual_seed(0)
    n, m, a, b = 5, 3, 4, 2
    cell = Cell(n, m, layer_norm).double()
    with torch.no_grad():
        for p in cell.parameters():
            p.copy_(torch.randn_like(p))
    rule = {name: p.unsqueeze(0) for name, p in cell.named_parameters()}
    h, c = torch.randn(2, 1, a, b, n, dtype=torch.float64)
    forward, backward = (torch.randn(1, k, m, dtype=torch.float64) for k in (a, b))
    lstm = torch.nn.LSTMCell(2 * m, n).double()
    # PyTorch has the gates in the order i, f, g, o; we have i, g, f, o.
    order = torch.arange(4 * n).view(4, n)[[0, 2, 1, 3]].flatten()
    with torch.no_grad():
        into = torch.cat([cell.from_forward, cell.from_backward])
        offsets = torch.tensor([-5.0, 0.0, 5.0, 0.0]).double().repeat_interleave(n)
        lstm.weight_ih.copy_(into.mT[order])
        lstm.weight_hh.copy_(cell.from_state.mT[order])
        lstm.bias_ih.copy_((cell.bias + offsets)[order])
        lstm.bias_hh.zero_()
    got_h, got_c = tick(rule, h, c, forward, backward, micro_ticks=2, gate_bias=5.0)
    u = torch.cat([forward[0, :, None].expand(-1, b, -1), backward[0].expand(a, -1, -1)], -1)
    state = h[0].flatten(0, 1), c[0].flatten(0, 1)
    for _ in range(2):
        state = lstm(u.flatten(0, 1), state)
    torch.testing.assert_close(got_h[0].flatten(0, 1), state[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(got_c[0].flatten(0, 1), state[1], rtol=1e-10, atol=1e-12)
    for direction, over in (("forward", 0), ("backward", 1)):
        each = got_h[0] @ getattr(cell, f"to_{direction}") + getattr(cell, f"{direction}_bias")
        if layer_norm:
            scale, offset = (getattr(cell, f"{direction}_{x}") for x in ("scale", "offset"))
            each = F.layer_norm(each, (m,), scale, offset)
        sent = message(rule, got_h, direction)
        torch.testing.assert_close(sent[0], each.mean(over), rtol=1e-10, atol=1e-12)


def test_an_untrained_forget_gate_is_open_and_an_input_gate_shut():
    """A state changes by a share of sigmoid(-5) = 0.0067 at first."""
    cell = Cell(4, 3, layer_norm=False)
    rule = {name: torch.zeros(1, *p.shape) for name, p in cell.named_parameters()}
    c = torch.ones(1, 2, 2, 4)
    _, after = tick(
        rule, c, c, torch.ones(1, 2, 3), torch.ones(1, 2, 3), micro_ticks=1, gate_bias=5.0
    )
    torch.testing.assert_close(after, torch.full_like(c, 1 - 1 / (1 + math.exp(5))))


@pytest.mark.parametrize("hidden", [0, 3])
def test_permuted_pixels_with_the_permuted_state_leave_the_logits(hidden):
    learner, (x, y, q) = vsml(hidden=hidden), task()
    network = started(learner)
    order = torch.randperm(FEATURES)
    permuted = [*(part[:, order] for part in network[:3]), *network[3:]]
    expected, _ = ask(learner, x, y, q, network)
    found, _ = ask(learner, x[..., order], y, q[..., order], permuted)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    other, _ = ask(learner, x[..., order], y, q[..., order], network)
    assert not torch.allclose(other, expected, rtol=1e-3, atol=1e-9)


def test_permuted_pixels_leave_the_logits_where_nothing_starts_at_random():
    learner, (x, y, q) = vsml(random_share=0.0), task()
    order = torch.randperm(FEATURES)
    expected, found = (ask(learner, x[..., o], y, q[..., o])[0] for o in (slice(None), order))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_classes_are_alike_where_nothing_starts_at_random():
    """Other numbers for them permute the logits; those not seen yet have equal ones."""
    learner, (x, y, q) = vsml(random_share=0.0, every_step=True), task()
    assert learner.way_equivariant and not vsml().way_equivariant
    logits, before = ask(learner, x, y, q)
    new = torch.tensor([3, 0, 4, 1, 2])
    found, _ = ask(learner, x, new[y], q)
    torch.testing.assert_close(found[..., new], logits, rtol=1e-10, atol=1e-12)
    assert logits.std(-1).min() > 1e-6
    for step in range(5):  # classes come in order
        unseen = before[:, step, step:]
        torch.testing.assert_close(unseen, unseen[..., :1].expand_as(unseen), rtol=0, atol=1e-14)
    assert before[:, 4].std(-1).min() > 1e-9


def test_a_query_is_what_one_more_example_would_be():
    """And queries do not see each other."""
    learner, (x, y, q) = vsml(every_step=True), task()
    network = started(learner)
    expected, _ = ask(learner, x, y, q, network)
    for place in (0, 7):
        longer = torch.cat([x, q[:, place : place + 1]], 1)
        label = torch.zeros(2, 1, dtype=torch.int64)
        _, before = ask(learner, longer, torch.cat([y, label], 1), q[:, :1], network)
        torch.testing.assert_close(before[:, -1], expected[:, place], rtol=1e-10, atol=1e-12)
    backwards, _ = ask(learner, x, y, q.flip(1), network)
    torch.testing.assert_close(backwards.flip(1), expected, rtol=1e-10, atol=1e-12)
    other, _ = ask(learner, x.flip(1), y.flip(1), q, network)
    assert not torch.allclose(other, expected, rtol=1e-3, atol=1e-9)


def test_a_rule_for_each_task_is_that_of_the_task():
    """As a population has them."""
    learner, (x, y, q) = vsml(), task()
    network, rule = started(learner), learner.numbers()
    two = {name: torch.cat([p, 1.5 * p]) for name, p in rule.items()}
    both, _ = ask(learner, x, y, q, network, rule=two)
    for place, factor in ((0, 1.0), (1, 1.5)):
        one = {name: factor * p for name, p in rule.items()}
        part = slice(place, place + 1)
        alone = [each[part] for each in network]
        expected, _ = ask(learner, x[part], y[part], q[part], alone, rule=one)
        torch.testing.assert_close(both[part], expected, rtol=1e-10, atol=1e-12)


def test_the_same_parameters_run_at_any_size():
    learner = vsml()
    for way, backbone, hidden in ((5, "pixels14", 0), (7, "pixels20", 6)):
        other = VSML(
            build_backbone(backbone, IMAGE),
            way,
            size=4,
            message=3,
            layer_norm=False,
            hidden=hidden,
        ).double()
        other.rules.load_state_dict(learner.rules.state_dict())
        assert other(episode_of(way, 2, 1, tasks=2).to(torch.float64)).shape == (2, way, way)


def test_the_loss_has_the_answers_on_the_way_if_asked():
    batch = episode_of(5, 1, 2, tasks=2).to(torch.float64)
    learner, every = vsml(), vsml(every_step=True)
    found = []
    for each in (learner, every):
        torch.manual_seed(5)
        found.append(each.meta_loss(batch))
    x, q = learner.inputs(batch)
    torch.manual_seed(5)
    network = every.start(2, 196, 5, Draw(x, fresh=True))
    logits, before = ask(every, x, batch.support.y, q, network)
    at_end = F.cross_entropy(logits.flatten(0, 1), batch.query.y.flatten())
    at_each = F.cross_entropy(before.flatten(0, 1), batch.support.y.flatten())
    torch.testing.assert_close(found[0], at_end)
    torch.testing.assert_close(found[1], (10 * at_end + 5 * at_each) / 15)


def test_the_label_is_what_it_learns_from_beside_the_error():
    batch = episode_of(5, 1, 1, tasks=2).to(torch.float64)
    found = [vsml(feed_label=feeds)(batch) for feeds in (True, False)]
    assert not torch.allclose(*found, rtol=1e-3, atol=1e-9)
    unlabelled = batch._replace(support=Examples(batch.support.x, batch.support.y.flip(1)))
    assert not torch.allclose(vsml()(unlabelled), found[0], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 0}, "size 0: expected a number of at least 1"),
        ({"message": 1}, "message 1: expected a number of at least 2"),
        ({"micro_ticks": 0}, "micro_ticks 0: expected"),
        ({"hidden": -1}, "hidden -1: expected"),
        ({"random_share": 1.5}, "random_share 1.5: expected a number from 0 to 1"),
        ({"bound": 0.0}, "bound 0.0: expected a number above 0"),
        ({"random_share": 0.0, "hidden": 3}, "hidden neurons that start alike stay alike"),
    ],
)
def test_bad_settings(options, says):
    with pytest.raises(UsageError, match=says):
        vsml(**options)

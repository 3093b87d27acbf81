"""The contract of a backbone, held with networks of other make under every learner."""

import copy
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tests.conftest import episode_of, pairs_in_full
from tests.support.other_networks import OTHER_NETWORKS
from zoo import Episode, Learner, learners
from zoo.backbone_contract import features_of
from zoo.batch_norm import BatchNorm, convert_batch_norm, set_batch_norm
from zoo.conformance import DoesNotApplyError, Maker, checks
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.methods.inner_loop import task_gradients
from zoo.methods.preconditioners import PRECONDITIONERS
from zoo.networks.backbone import build_backbone
from zoo.registry import register_backbone

IMAGE = (1, 12, 12)
INNER_LOOPS = ("maml", "anil", "metasgd", "tnet", "trlearner")
FEWER = {key: {"test_steps": 2} for key in (*INNER_LOOPS, "reptile")}
FEWER["finetune"] = {"head_steps": 3}
TAKES_NONE = ("npbml",)  # it adapts the last of our blocks of convolutions
HELD = (
    checks.loss_is_mean_over_tasks,
    checks.tasks_do_not_mix,
    checks.transductive_as_it_says,
    checks.without_autograd,
    checks.evaluation_changes_nothing,
    checks.features_for_images,
    checks.weights_survive,
)


def ours_frozen(image: tuple[int, ...]) -> nn.Module:
    """One of our own networks, a convolution and another one's norm frozen."""
    net = build_backbone("conv4_strided[channels=4]", image)
    net.convs[0].requires_grad_(False)
    net.norms[2].requires_grad_(False)
    return net


NETWORKS = {**OTHER_NETWORKS, "ours_frozen": ours_frozen}


def learner_on(kind: str, key: str, **options) -> Learner:
    torch.manual_seed(0)
    few = {"inner_steps": 2, "test_steps": 2} if key in INNER_LOOPS else {}
    return learners.get(key)(NETWORKS[kind](IMAGE), 3, **{**few, **options})


def episode(tasks: int = 2, dtype: torch.dtype = torch.float32) -> Episode:
    e = episode_of(way=3, tasks=tasks, image=IMAGE)
    s, q = (part._replace(x=part.x.to(dtype)) for part in e[:2])
    return Episode(s, q, e.way)


@pytest.fixture
def registered(registers) -> None:
    """Each network under its name."""
    for name, cls in OTHER_NETWORKS.items():
        register_backbone(name)(cls)


@pytest.mark.parametrize(
    ("key", "kind"),
    pairs_in_full(
        product(learners.names(), OTHER_NETWORKS), ("residual", "maml", "protonet", "reptile")
    ),
)
def test_a_learner_takes_it(registered, key, kind):
    """A step of training and what every learner promises; or a refusal in words."""
    make = Maker(key, FEWER.get(key, {}), backbone=kind, image=IMAGE)
    if key in TAKES_NONE:
        with pytest.raises(UsageError, match="blocks of convolutions"):
            make()
        return
    learner = make()
    frozen = {n: p.clone() for n, p in learner.named_parameters() if not p.requires_grad}
    checks.update(learner, make.episode())
    assert all(torch.equal(p, learner.get_parameter(name)) for name, p in frozen.items())
    if key != "mean":  # which has no network
        assert (learner.batch_norm == "none") == (kind in ("depthwise", "attention"))
    if checks.learnable(learner):
        checks.lose(learner, make.episode()).backward()
        assert all(p.grad.isfinite().all() for p in learner.parameters() if p.grad is not None)
    # A gradient reaches all that is used.
    for check in HELD if kind == "partly_frozen" else (checks.gradients_reach, *HELD):
        try:
            check(make)
        except DoesNotApplyError:
            continue


@pytest.mark.full
@pytest.mark.parametrize("kind", OTHER_NETWORKS)
@pytest.mark.parametrize("key", sorted({*learners.names()} - {*TAKES_NONE}))
def test_it_stays_on_the_device(registered, key, kind):
    try:
        checks.stays_on_device(Maker(key, FEWER.get(key, {}), backbone=kind, image=IMAGE))
    except DoesNotApplyError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("kind", ["residual", "partly_frozen"])
@pytest.mark.parametrize("key", [*INNER_LOOPS, "reptile"])
def test_no_running_statistics_move_in_inner_steps(key, kind):
    learner = learner_on(kind, key)
    assert learner.batch_norm == "batch"
    before = {name: b.clone() for name, b in learner.net.named_buffers()}
    assert len(before) == 6
    learner.meta_loss(episode()).backward()
    learner(episode())
    assert all(torch.equal(before[name], b) for name, b in learner.net.named_buffers())


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("key", INNER_LOOPS)
def test_the_meta_gradient_is_exact(key, kind):
    """In full and low memory, against a difference along a random direction in what is learned."""
    rates = {"rate_low": 0.05, "rate_high": 0.2} if key == "metasgd" else {"inner_lr": 0.1}
    learner, e = learner_on(kind, key, **rates).double(), episode(dtype=torch.float64)
    learned = [p for p in learner.parameters() if p.requires_grad]
    grads: list[list[Tensor]] = []
    for memory in ("full", "low"):
        learner.inner_optimizer = replace(learner.inner_optimizer, memory=memory)
        loss = learner.meta_loss(e)
        grads.append([*torch.autograd.grad(loss, learned, materialize_grads=True)])
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)
    g = torch.Generator().manual_seed(3)
    along = [torch.randn(p.shape, generator=g).double() for p in learned]
    values = []
    for step in (1e-6, -2e-6):
        for p, d in zip(learned, along, strict=True):
            p.data += step * d
        values.append(learner.meta_loss(e).item())
    ours = sum((grad * d).sum().item() for grad, d in zip(grads[0], along, strict=True))
    assert ours == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), nn.Dropout2d(0.5)])
def test_in_low_memory_dropout_is_the_same_when_a_step_is_computed_again(dropout):
    grads, drawn = [], []
    for memory in ("full", "low"):
        torch.manual_seed(0)
        net = Body(nn.Sequential(dropout, nn.ReLU()))
        learner = learners.get("maml")(net, 3, memory=memory, inner_lr=0.5).double()
        learner.meta_loss(episode(dtype=torch.float64)).backward()
        grads.append([p.grad for p in learner.parameters()])
        drawn.append(torch.rand(1))
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)
    assert torch.equal(*drawn)


@pytest.mark.parametrize("kind", ["residual", "partly_frozen"])
def test_maml_on_it_is_maml_with_pytorchs_own_layers(kind):
    """Task by task, on a copy that nothing has converted, in training: its norms take the batch."""
    learner = learner_on(kind, "maml", inner_lr=0.1).double()
    torch.manual_seed(0)
    body = OTHER_NETWORKS[kind](IMAGE).double()
    head, e = copy.deepcopy(learner.net.head), episode(dtype=torch.float64)
    net = nn.ModuleDict({"backbone": body, "head": head})

    def logits(theta: dict[str, Tensor], x: Tensor) -> Tensor:
        parts = {
            part: {n.partition(".")[2]: p for n, p in theta.items() if n.startswith(part)}
            for part in net
        }
        z = functional_call(body, parts["backbone"], (x,))
        return F.linear(z, parts["head"]["weight"], parts["head"]["bias"])

    for t in range(e.tasks):
        theta = {n: p for n, p in net.named_parameters() if not n.startswith("backbone.fc")}
        moving = [n for n, p in theta.items() if p.requires_grad]
        for _ in range(2):
            loss = F.cross_entropy(logits(theta, e.support.x[t]), e.support.y[t])
            found = torch.autograd.grad(loss, [theta[n] for n in moving])
            theta |= {n: theta[n] - 0.1 * g for n, g in zip(moving, found, strict=True)}
        torch.testing.assert_close(learner(e)[t], logits(theta, e.query.x[t]))


@pytest.mark.parametrize("memory", ["full", "low"])
def test_a_frozen_and_an_unused_layer_stay_as_they_are(memory):
    learner = learner_on("partly_frozen", "maml", memory=memory)
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context():
            theta = learner.models(episode())
        for name, p in learner.net.named_parameters():
            kept = ".stem." in name or ".fc." in name
            assert torch.equal(theta[name][1], p) == kept, name


def test_a_learner_that_is_frozen_as_a_whole_adapts_as_before():
    """As Lightning's `freeze` leaves it for a test."""
    learner = learner_on("residual", "maml").eval()
    expected = learner(episode())
    learner.freeze()
    with torch.no_grad():
        assert torch.equal(learner(episode()), expected)


@pytest.mark.parametrize("options", [*PRECONDITIONERS, "step_rates"])
def test_every_preconditioner_passes_frozen_layers_over(options):
    """Post-block layers stand behind blocks, of our networks alone."""
    kind = "ours_frozen" if options == "post_block" else "partly_frozen"
    given = {"step_rates": True} if options == "step_rates" else {"preconditioner": options}
    learner = learner_on(kind, "maml", inner_lr=0.1, **given)
    learner.meta_loss(episode()).backward()
    theta = learner.models(episode())
    for name, p in learner.net.named_parameters():
        assert (p.grad is None or bool(p.grad.isfinite().all())) and name in theta
        assert p.requires_grad or torch.equal(theta[name][1], p)


def test_reptile_leaves_them_too():
    learner = learner_on("partly_frozen", "reptile")
    theta = {n: p.expand(2, *p.shape) for n, p in learner.net.named_parameters()}
    found = task_gradients(learner.net, theta, episode().support, task_loss)
    assert list(found) == list(theta)
    for name, g in found.items():
        assert bool(g.any()) != (".stem." in name or ".fc." in name)


def test_nothing_is_learned_of_steps_that_a_frozen_layer_does_not_take():
    learner = learner_on("partly_frozen", "metasgd")
    moving = [p.shape for p in learner.net.parameters() if p.requires_grad]
    assert [rate.shape for rate in learner.precondition.rates] == moving
    layers = learner_on("partly_frozen", "tnet").precondition.layer
    assert layers and not any(".stem." in name for name in layers)
    learner = learner_on("depthwise", "tnet")
    bias = learner.net.backbone.layers[0].bias.requires_grad_(False)
    learner.precondition = type(learner.precondition)(learner.net)
    for transform in learner.precondition.transforms:
        transform.data *= 1.5
    theta = learner.models(episode())
    assert torch.equal(theta["backbone.layers.0.bias"][1], bias)


class Body(nn.Module):
    """A layer, then a mean over what is left of the pixels."""

    features = 4

    def __init__(self, layer: nn.Module, features: object = 4) -> None:
        super().__init__()
        self.conv, self.layer, self.features = nn.Conv2d(1, 4, 3), layer, features

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.conv(x)).mean((2, 3))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tracks", [True, False])
@pytest.mark.parametrize(
    ("cls", "shape"),
    [
        (nn.BatchNorm1d, (9, 4)),
        (nn.BatchNorm1d, (9, 4, 5)),
        (nn.BatchNorm2d, (9, 4, 3, 2)),
        (nn.BatchNorm3d, (9, 4, 3, 2, 2)),
    ],
)
def test_a_converted_batch_norm_computes_the_same(cls, shape, affine, tracks):
    theirs = cls(4, eps=0.1, momentum=0.3, affine=affine, track_running_stats=tracks)
    for p in theirs.parameters():
        nn.init.normal_(p)
    ours, x = copy.deepcopy(theirs), torch.randn(2, *shape) * 3 + 1
    convert_batch_norm(ours)
    assert isinstance(ours, BatchNorm)
    names = [name for name in theirs.state_dict() if name != "num_batches_tracked"]
    assert list(ours.state_dict()) == names
    if tracks:
        set_batch_norm(ours, "running")
    for training, batch in ((True, x[0]), (True, x[1]), (False, x[0])):
        expected = theirs.train(training)(batch)
        torch.testing.assert_close(ours.train(training)(batch), expected)
    for name in names:
        torch.testing.assert_close(ours.state_dict()[name], theirs.state_dict()[name])
    set_batch_norm(ours, "support")
    ours.support_rows = 5
    torch.testing.assert_close(ours(x[0])[:5], theirs.train()(x[0][:5]))


def test_a_layer_is_converted_wherever_it_is_held():
    norm = nn.SyncBatchNorm(4)
    net, aside = nn.Sequential(norm, nn.Sequential(norm)), [norm]
    weight = norm.weight
    convert_batch_norm(net)
    assert isinstance(aside[0], BatchNorm) and net[0] is net[1][0] is aside[0]
    assert aside[0].weight is weight


class Clipped(nn.BatchNorm2d):
    """A batch norm that does something more."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp(-1, 1)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.BatchNorm2d(4, momentum=None), "layer layer, a BatchNorm2d, has momentum=None: give"),
        (nn.LazyBatchNorm2d(), "it has lazy layers, whose weights have no shape yet"),
        (nn.InstanceNorm2d(4, track_running_stats=True), "keeps running statistics in a way of"),
        (Clipped(4), "a Clipped, keeps running statistics in a way of its own"),
    ],
)
def test_a_norm_that_cannot_be_converted_is_refused(layer, words):
    with pytest.raises(UsageError, match=words):
        learners.get("protonet")(Body(layer), 5)


def test_a_norm_without_running_statistics_takes_those_of_the_batch():
    make = learners.get("protonet")
    assert make(Body(nn.BatchNorm2d(4, track_running_stats=False)), 5, batch_norm="batch")
    with pytest.raises(UsageError, match="has no running statistics: use batch_norm=batch"):
        make(Body(nn.BatchNorm2d(4, track_running_stats=False)), 5)
    assert make(Body(nn.InstanceNorm2d(4)), 5).batch_norm == "none"


def test_a_buffer_that_moves_in_inner_steps_is_refused():
    def body() -> Body:
        return Body(nn.utils.spectral_norm(nn.Conv2d(4, 4, 3)))

    learners.get("protonet")(body(), 3).meta_loss(episode())
    for key in ("maml", "reptile"):
        learner = learners.get(key)(body(), 3)
        with pytest.raises(UsageError, match="Conv2d changes its buffers"):
            learner.meta_loss(episode())


@pytest.mark.parametrize("features", [None, "4", 4.0, True, 0])
def test_a_backbone_says_how_many_features_it_gives(registers, features):
    """To whoever builds it, and to every learner that asks."""
    words = r"backbone Body: its attribute `features` must be .*; it is "
    register_backbone("body")(lambda image: Body(nn.Identity(), features))
    with pytest.raises(UsageError, match=words):
        build_backbone("body", IMAGE)
    for key in {"maml", "reptile", "trlearner", "matchingnet", "cnp", "mann", "snail", "metanet"}:
        with pytest.raises(UsageError, match=words):
            learners.get(key)(Body(nn.Identity(), features), 5)


def test_what_a_backbone_gives_is_looked_at(registers):
    class Wrong(Body):
        def __init__(self, what) -> None:
            super().__init__(nn.Identity())
            self.what = what

        def forward(self, x: Tensor):
            return self.what(self.conv(x))

    wrong = {
        r"float32 \(2, 4, 10, 10\)": lambda z: z,
        r"float32 \(4,\)": lambda z: z.mean((0, 2, 3)),
        r"int64 \(2, 4\)": lambda z: z.mean((2, 3)).long(),
        "tuple": lambda z: (z, z),
    }
    for number, (words, what) in enumerate(wrong.items()):
        register_backbone(f"wrong{number}")(lambda image, what=what: Wrong(what))
        with pytest.raises(UsageError, match=f"it gives .*{words}; expected floats .2, 4."):
            build_backbone(f"wrong{number}", IMAGE)
    register_backbone("nothing")(lambda image: None)
    with pytest.raises(UsageError, match=r"NoneType: expected an nn\.Module"):
        build_backbone("nothing", IMAGE)


def test_building_one_leaves_its_weights_and_random_numbers_alone(registers):
    def build(image: tuple[int, ...]) -> nn.Module:
        spectral = nn.utils.spectral_norm(nn.Conv2d(4, 4, 3))  # a pass in training changes it
        return Body(nn.Sequential(spectral, nn.BatchNorm2d(4), nn.Dropout()))

    register_backbone("body")(build)
    torch.manual_seed(0)
    plain, after = build(IMAGE).state_dict(), torch.rand(3)
    torch.manual_seed(0)
    net = build_backbone("body", IMAGE)
    assert torch.equal(torch.rand(3), after) and features_of(net) == 4
    del plain["layer.1.num_batches_tracked"]
    ours = net.state_dict()
    assert list(ours) == list(plain)
    assert all(torch.equal(value, ours[name]) for name, value in plain.items())


def test_attention_takes_first_order_steps_too():
    """Where none is asked for, PyTorch's kernels stay: the same but for rounding."""
    e = episode()
    grads = []
    for first_order in (True, False):
        learner = learner_on("attention", "maml", first_order=first_order, inner_lr=0.0)
        learner.meta_loss(e).backward()
        grads.append([p.grad for p in learner.parameters()])
    torch.testing.assert_close(*grads)

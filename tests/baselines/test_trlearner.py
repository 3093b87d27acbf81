"""TRLearner on its hosts: nothing without its weight, known answers with it."""

import copy

import pytest
import torch
from torch.nn import functional as F

from tests.conftest import in_full
from tests.runs.test_run import SMALL as SMALL_RUN
from tests.runs.test_run import plan
from zoo import Episode, Examples, learners
from zoo.conformance import CHECKS, BrokenError, Maker, episode_of
from zoo.conformance.added_losses import added_losses
from zoo.conformance.harness import points_of
from zoo.errors import UsageError
from zoo.methods.embedding import prototypes, squared_distances
from zoo.methods.inner_loop import call
from zoo.networks.backbone import build_backbone
from zoo.registry import learner_of

HOSTS = {
    "maml": {"inner_steps": 1},
    "anil": {"inner_steps": 2},
    "metasgd": {},
    "tnet": {"inner_steps": 1},
    "tnet-masked": {"inner_steps": 1, "mask": True},
    "protonet": {},
}
SMALL = {"way": 3, "shot": 2, "query": 2, "tasks": 3, "image": (1, 8, 8)}


def pair(name, regression=False, **settings):
    """The host and it with TRLearner, of the same weights, in float64."""
    host = name.partition("-")[0]
    made = []
    for variant in (host, f"trlearner[host={host}]"):
        _, cls, own = learner_of(variant)
        torch.manual_seed(0)
        image = (1,) if regression else SMALL["image"]
        net = build_backbone("mlp" if regression else "conv4_strided[channels=4]", image)
        given = HOSTS[name] | own | (settings if variant != host else {})
        made.append(cls(net, 1 if regression else SMALL["way"], **given).double().train())
    return made


def batch(seed=0, regression=False):
    """Three tasks in float64."""
    found = points_of(1, 5, 6, 3, seed) if regression else episode_of(**SMALL, seed=seed)
    parts = [Examples(x.double(), y.double() if regression else y) for x, y in found[:2]]
    return Episode(*parts, found.way)


def train(learner, updates, regression):
    """Plain gradient descent; what it ends with, of the host's parameters."""
    torch.manual_seed(5)  # masks are drawn
    optimizer = torch.optim.SGD(learner.parameters(), 0.01)
    for seed in range(updates):
        optimizer.zero_grad()
        learner.meta_loss(batch(seed, regression)).backward()
        optimizer.step()
    return {n: p.detach() for n, p in learner.state_dict().items() if "relations" not in n}


def distance(a, b):
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize(
    ("name", "regression"),
    [*((name, False) for name in HOSTS), *((n, True) for n in HOSTS if n != "protonet")],
)
def test_with_weight_0_it_is_its_host(name, regression):
    """To 1e-12 over 20 updates; with a weight of 1e-6 it differs by that order."""
    host, without = pair(name, regression, weight=0.0)
    _, little = pair(name, regression, weight=1e-6)
    ends = [train(learner, 20, regression) for learner in (host, without, little)]
    assert ends[0].keys() == ends[1].keys()
    assert distance(ends[0], ends[1]) <= 1e-12
    assert 1e-10 < distance(ends[0], ends[2]) < 1e-3  # more than 1e-6 where a ReLU switches


@pytest.mark.parametrize("name", [*HOSTS])
def test_it_predicts_as_its_host(name):
    host, related = pair(name)
    torch.testing.assert_close(related.eval()(batch()), host.eval()(batch()))


class Line(torch.nn.Module):
    """Features are the points themselves."""

    features = 1

    def forward(self, x):
        return x


def test_the_term_of_two_tasks_and_a_linear_model_by_hand():
    """Points (x, y), one step of ANIL's head w x + b, all by hand."""
    learner = (
        learners.get("trlearner")
        .class_for({"host": "anil"})(
            Line(), 1, host="anil", inner_lr=0.1, inner_steps=1, heads=2, weight=0.5
        )
        .double()
    )
    w0, b0 = 0.5, -0.25
    with torch.no_grad():
        learner.net.head.weight.fill_(w0)
        learner.net.head.bias.fill_(b0)
    support = torch.tensor([[1.0, 2.0], [-1.0, 3.0]]), torch.tensor([[2.0, 1.0], [-1.0, 2.0]])
    query = torch.tensor([[0.5, -1.0], [2.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, -2.0]])
    parts = [
        Examples(x.double().unsqueeze(-1), y.double().unsqueeze(-1)) for x, y in (support, query)
    ]
    episode = Episode(*parts, 1)
    models = []
    for x, y in zip(*(s.double() for s in support), strict=True):
        r = w0 * x + b0 - y
        models.append((w0 - 0.1 * (2 * r * x).mean(), b0 - 0.1 * (2 * r).mean()))
    # Of two tasks each has the other's whole say, however they are related.
    own, others = 0.0, 0.0
    for i in range(2):
        x, y = query[0][i].double(), query[1][i].double()
        own += (models[i][0] * x + models[i][1] - y).square().mean()
        others += (models[1 - i][0] * x + models[1 - i][1] - y).square().mean()
    torch.testing.assert_close(learner.meta_loss(episode), own / 2 + 0.5 * others / 2)
    flipped = episode._replace(
        support=Examples(parts[0].x * torch.tensor([1.0, -1.0]).double().view(2, 1, 1), parts[0].y)
    )
    terms = learner.loss_terms(flipped)
    assert [*terms] == ["host", "consistency"] and terms["consistency"] > 0
    torch.testing.assert_close(learner.meta_loss(flipped), terms["host"] + terms["consistency"])


def twins():
    """Two tasks with the same images under other labels, and which labels."""
    one = batch()
    ways = torch.tensor([2, 0, 1])
    parts = [
        Examples(torch.cat([x[:1], x[:1]]), torch.cat([y[:1], ways[y[:1]]])) for x, y in one[:2]
    ]
    return Episode(*parts, 3)


@pytest.mark.parametrize("name", ["protonet", "maml", "anil"])
def test_classes_under_other_labels_are_found_again(name):
    """Of a twin, the other's model says what one's own would, had it learned one's labels."""
    _, learner = pair(name, weight=1.0, say="aligned")
    episode = twins()
    if name != "protonet":  # heads that start alike for all ways, so that labels are only names
        with torch.no_grad():
            learner.net.head.weight[:] = learner.net.head.weight[:1]
            learner.net.head.bias[:] = 0
    known = learner.encode(episode)
    models = learner.models(known)
    own = F.cross_entropy(
        learner.predict(models, known).mT, episode.query.y, reduction="none"
    ).mean(1)
    torch.testing.assert_close(learner.consistency(models, known, episode), own)


def test_encoders_of_others_with_our_head_are_our_model_where_none_moved():
    host, learner = pair("maml", say="encoders", inner_lr=0.0)
    host.inner_optimizer = learner.inner_optimizer
    terms, own = learner.loss_terms(batch()), host.meta_loss(batch())
    torch.testing.assert_close(terms["host"], own)
    torch.testing.assert_close(terms["consistency"], 0.5 * own)


@pytest.mark.parametrize("say", ["aligned", "encoders"])
def test_gradients_reach_the_heads_of_the_similarity(say):
    _, learner = pair("maml", say=say)
    learner.meta_loss(batch()).backward()
    assert learner.relations.weights.grad.abs().min() > 0


def test_encoders_of_others_are_those_that_adapted():
    """Of two tasks, each by the other's encoder below its own head, computed one by one."""
    _, learner = pair("maml", say="encoders", inner_lr=0.5)
    parts = [Examples(x[:2], y[:2]) for x, y in batch()[:2]]
    episode = Episode(*parts, 3)
    known = learner.encode(episode)
    models = learner.models(known)
    expected = []
    for i in range(2):
        mixed = {n: p[i if n.startswith("head.") else 1 - i] for n, p in models.items()}
        logits = torch.func.functional_call(learner.net, mixed, (parts[1].x[i],))
        expected.append(F.cross_entropy(logits, parts[1].y[i]))
    found = learner.consistency(models, known, episode)
    torch.testing.assert_close(found, torch.stack(expected))


def test_features_are_of_the_network_that_is_run():
    """T-Net puts T before each layer; what represents a task is the network with it."""
    _, learner = pair("tnet")
    episode = batch()
    plain = learner.features(episode, episode)
    with torch.no_grad():
        for p in learner.precondition.parameters():
            p.add_(torch.randn_like(p))
    found = learner.features(episode, episode)
    assert not torch.allclose(plain, found)
    theta = learner.precondition.start({n: p[None] for n, p in learner.net.named_parameters()})
    own = {n.removeprefix("backbone."): p[0] for n, p in theta.items() if "head" not in n}
    alone = torch.func.functional_call(learner.net.backbone, own, (episode.support.x[1],))
    torch.testing.assert_close(found[1], alone.detach())


def test_what_represents_a_task_is_a_constant():
    _, learner = pair("protonet")
    known = learner.encode(batch())
    assert known.support.x.requires_grad and not learner.features(known, batch()).requires_grad
    _, learner = pair("maml")
    episode = batch()
    assert not learner.features(episode, episode).requires_grad


def test_others_bounds_who_has_a_say():
    """One other has all of the weight, whatever it is."""
    _, learner = pair("protonet", others=1)
    _, all_of_them = pair("protonet", others=None)
    found = []
    for each in (learner, all_of_them):
        known = each.encode(batch())
        found.append(each.consistency(each.models(known), known, batch()))
    assert not torch.allclose(*found)
    assert copy.deepcopy(learner).meta_loss(batch()).isfinite()


def test_one_task_is_refused_but_predicted():
    _, learner = pair("maml")
    parts = [Examples(x[:1], y[:1]) for x, y in batch()[:2]]
    episode = Episode(*parts, 3)
    assert learner(episode).shape == (1, 6, 3)
    with pytest.raises(UsageError, match="--meta_batch must be at least 2"):
        learner.meta_loss(episode)


@pytest.mark.parametrize(
    ("variant", "settings", "says"),
    [
        ("trlearner[host=cnp]", {}, "host cnp: cannot be one; choose from anil, maml"),
        ("trlearner[host=trlearner]", {}, "choose from anil, maml"),
        ("trlearner[host=protonett]", {}, "did you mean 'protonet'"),
        ("trlearner", {"host": "anil"}, "name it in the learner's brackets"),
        ("trlearner", {"say": "loud"}, "say loud: choose from aligned, encoders"),
        ("trlearner", {"drawn": "none"}, "drawn none: choose from all, hardest"),
        ("trlearner", {"others": 0}, "others 0: expected at least 1"),
        ("trlearner", {"heads": 0}, "heads 0, others 4: expected at least 1"),
        ("trlearner[host=anil]", {"say": "encoders"}, "anil adapts no encoder"),
        ("trlearner[host=protonet]", {"say": "encoders"}, "protonet adapts no encoder"),
    ],
)
def test_bad_settings(variant, settings, says):
    with pytest.raises(UsageError, match=says):
        _, cls, own = learner_of(variant)
        cls(build_backbone("conv4_strided[channels=4]", (1, 8, 8)), 3, **{**own, **settings})


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.run.__name__)
@pytest.mark.parametrize("host", ["anil", "metasgd", "protonet", "tnet"])
def test_on_every_host_it_keeps_the_contract(check, host):
    """On MAML tests/conformance/test_every_learner.py holds it to the same."""
    verdict, why = check.verdict(Maker("trlearner", {"host": host}))
    assert verdict != "fails", why


@pytest.mark.parametrize(
    "host", in_full(["anil", "metasgd", "protonet", "tnet"], "anil", "protonet")
)
def test_on_every_host_the_term_is_on_its_scale(host):
    """On functions too, where the host does them."""
    added_losses(Maker("trlearner", {"host": host}))
    if learners.get(host).regression:
        added_losses(Maker("trlearner", {"host": host}, regression=True))


def by_distances(self, models, known, episode):
    """The term as version 1 had it: logits are squared distances over all features."""
    theirs = {n.removeprefix("backbone."): p.flip(0) for n, p in models.items() if "head" not in n}
    z, asked = (call(self.net.backbone, theirs, e.x) for e in episode[:2])
    logits = -squared_distances(asked, prototypes(z, episode.support.y, episode.way))
    return F.cross_entropy(logits.mT, episode.query.y, reduction="none").mean(1)


def test_the_term_that_drowned_its_host_is_caught(monkeypatch):
    cls = learners.get("trlearner")
    monkeypatch.setattr(cls, "consistency", by_distances)
    with pytest.raises(
        BrokenError, match=r"28x28, .* the added loss consistency has .* expected 1/20"
    ):
        added_losses(Maker("trlearner", {"inner_steps": 1}))


def test_its_numbers_are_of_the_second_version():
    for host in ("maml", "protonet"):
        assert learner_of(f"trlearner[host={host}]")[1].version == 2


def test_hardest_is_of_classes():
    _, learner = pair("maml", regression=True, drawn="hardest")
    with pytest.raises(UsageError, match="drawn hardest"):
        learner.meta_loss(batch(regression=True))
    _, learner = pair("maml", drawn="hardest")
    assert learner.meta_loss(batch()).isfinite()


def test_a_record_says_how_its_added_loss_pulled_through_the_training(stores, tmp_path):
    flags = {**SMALL_RUN, "validations": 3}
    record = plan(tmp_path, stores, "trlearner", flags=flags).execute(progress=False)
    assert [point["updates"] for point in record["added_loss"]] == [4, 8, 12]
    assert all(0 < point["ratio"] < 2 for point in record["added_loss"])
    assert all(-1 <= point["cosine"] <= 1 for point in record["added_loss"])
    host = plan(tmp_path, stores, "maml", flags=flags).execute(progress=False)
    assert "added_loss" not in host

"""Relation scores: what compares by hand, and its stage."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import episode_of
from tests.runs.test_run import plan
from tests.runs.test_stages import PRE, TEST, same
from zoo import Episode, Examples
from zoo.baselines.npbml import NPBML
from zoo.baselines.npbml_relation import RelationHead, RelationNetwork, Relations, RelationStage
from zoo.commands.table import untrained_settings
from zoo.errors import UsageError
from zoo.networks.backbone import BlockNet, build_backbone

IMAGE = (1, 16, 16)


def test_relation_scores_by_numpy():
    torch.manual_seed(0)
    head = RelationHead(4, units=6).double()
    query, classes = torch.randn(2, 7, 4).double(), torch.randn(2, 3, 4).double()
    got = head(query, classes)
    assert got.shape == (2, 7, 3)
    p = {name: value.detach().numpy() for name, value in head.named_parameters()}
    for n in range(3):
        q, c = query[1, 5].numpy(), classes[1, n].numpy()
        pair = np.concatenate([q * c, abs(q - c)])
        h = np.maximum(p["hidden.weight"] @ pair + p["hidden.bias"], 0)
        expected = 1 / (1 + np.exp(-(p["out.weight"] @ h + p["out.bias"])[0]))
        assert got[1, 5, n].item() == pytest.approx(expected)


class Itself(BlockNet):
    """Images for maps: (n, C, H, W) -> the same."""

    def run(self, x, fixed=None, blocks=slice(None)):
        return x


class Near(nn.Module):
    """exp(-|q - c|^2)."""

    def forward(self, query: Tensor, classes: Tensor) -> Tensor:
        return (-(query.unsqueeze(2) - classes.unsqueeze(1)).square().sum(-1)).exp()


@pytest.mark.parametrize("order", ["by class", "by shot", "shuffled"])
def test_relation_scores_of_a_hand_made_episode_with_5_shots(order):
    """Class c's supports have the mean c, and queries lie at 2, 0, 1: each nearest to its own."""
    y = {
        "by class": torch.arange(3).repeat_interleave(5),
        "by shot": torch.arange(3).repeat(5),
        "shuffled": torch.tensor([2, 0, 0, 1, 2, 1, 1, 0, 2, 2, 1, 0, 0, 1, 2]),
    }[order]
    x, spread = torch.zeros(15).double(), torch.tensor([-0.2, -0.1, 0.0, 0.1, 0.2]).double()
    for c in range(3):
        x[y == c] = c + spread
    asked = torch.tensor([2.0, 0.0, 1.0]).double()
    images = torch.cat([x, asked]).view(1, 18, 1, 1, 1)
    relations = Relations("head", build_backbone("conv4_strided[channels=4]", (1, 16, 16)))
    relations.encoder, relations.net = Itself(), Near()
    scores = relations(images, y[None], 3)
    expected = torch.exp(-((asked[:, None] - torch.arange(3.0).double()) ** 2))
    torch.testing.assert_close(scores[0], expected, rtol=1e-9, atol=1e-9)


@pytest.fixture
def network():
    """A small one, of numbers far from where it starts."""
    torch.manual_seed(0)
    net = type("Small", (RelationNetwork,), {"WIDTHS": (3, 4, 5, 6)})(1).double()
    for p in net.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, 0, p[0].numel() ** -0.5)
    return net.eval()


def test_a_relation_network_compares_each_query_with_the_sum_of_each_class(network):
    e = episode_of(way=3, shot=5, query=2, tasks=2, image=IMAGE)
    x, y = torch.cat([e.support.x, e.query.x], 1).double(), e.support.y
    scores = network(x, y, 3)
    assert scores.shape == (2, 6, 3) and scores.std() > 0.01
    for task, query, way in [(0, 0, 0), (0, 4, 2), (1, 3, 1)]:
        maps = network.encoder(x[task])
        of_class = maps[:15][y[task] == way].sum(0)
        both = torch.cat([maps[15 + query], of_class])[None]
        by_hand = network.out(network.compare(both).mean((2, 3))).sigmoid()
        torch.testing.assert_close(scores[task, query, way], by_hand[0, 0], rtol=1e-9, atol=0)


def test_a_relation_network_is_no_part_of_training():
    learner = NPBML(build_backbone("conv4[channels=4]", IMAGE), 3, relation="network")
    before = copy.deepcopy(learner.relations.state_dict())
    learner.train().meta_loss(episode_of(3, 2, 2, image=IMAGE)).backward()
    assert same(learner.relations.state_dict(), before), "running statistics stay"
    assert all(p.grad is None for p in learner.relations.parameters())
    assert learner.backbone_copies == () and not learner.relations.net.training


# --- the stage

NPBML_PRE = {**PRE, **TEST, "updates": 0, "relation_updates": 20}


def npbml(folder, stores, variant="npbml", seed=0, **flags):
    return plan(folder, stores, variant, seed=seed, flags={**NPBML_PRE, **flags})


@pytest.fixture(scope="module")
def first(stores, tmp_path_factory):
    """A run with both stages."""
    run = npbml(tmp_path_factory.mktemp("first"), stores)
    return run, run.execute(progress=False)


def test_the_encoder_and_what_compares_start_from_their_stages(first):
    run, record = first
    assert [said["name"] for said in record["stages"]] == ["pretrain", "relation"]
    encoder, head = (
        torch.load(staging.folder / "weights.ckpt", weights_only=True) for staging in run.stages
    )
    relations = run.learner.relations
    assert same(relations.encoder.state_dict(), encoder), "not moved by the second stage"
    assert same(relations.net.state_dict(), head)
    body = run.learner.net.backbone.state_dict()
    assert all(torch.equal(body[name], value) for name, value in encoder.items())


def test_it_learns_to_tell_a_querys_class(monkeypatch):
    """Of clusters about eight numbers, new ones in each episode."""
    relations = Relations("head", build_backbone("conv4_strided[channels=8]", IMAGE))
    relations.encoder = Itself()
    relations.encoder.widths = (8,)
    stage = RelationStage(relations, 5, 5, 200)
    monkeypatch.setattr(stage, "log", lambda *args, **options: None)
    optimizer = stage.configure_optimizers()

    def clusters(seed):
        g = torch.Generator().manual_seed(seed)
        y = torch.arange(5).repeat(4)[None]
        x = torch.randn(1, 5, 8, generator=g)[:, y[0]]
        x = (x + 0.5 * torch.randn(x.shape, generator=g))[..., None, None]
        return Episode(Examples(x[:, :10], y[:, :10]), Examples(x[:, 10:], y[:, 10:]), 5)

    def accuracy():
        return np.mean([stage.validation_step(clusters(n), 0).item() for n in range(20)])

    before = accuracy()
    for step in range(200):
        optimizer.zero_grad()
        stage.training_step(clusters(100 + step), step).backward()
        optimizer.step()
    assert before < 0.6 and accuracy() > 0.85


def test_all_that_ask_for_the_same_share_it(first, stores):
    run, _ = first
    folder = run.workspace.runs.parent
    other = npbml(folder, stores, "npbml[film=false,loss=query,warp=false]")
    assert [s.folder for s in other.stages] == [s.folder for s in run.stages]
    assert run.stages[1].identity["settings"]["shot"] == 1, "as the test's, in settings.yaml"
    assert npbml(folder, stores, relation_shot=2).stages[1].hash != run.stages[1].hash
    longer = npbml(folder, stores, relation_updates=21)
    assert longer.stages[0].hash == run.stages[0].hash
    assert longer.stages[1].hash != run.stages[1].hash


def test_on_an_encoder_at_random_it_is_of_that_encoder(stores, tmp_path):
    """Which follows from the run's seed."""
    flags = {"backbone": PRE["backbone"], **TEST, "relation_updates": 20}
    flags |= {"updates": 0, "pretrained_from": None}
    runs = [plan(tmp_path, stores, "npbml", seed=seed, flags=flags) for seed in (0, 0, 1)]
    hashes = [staging.hash for run in runs for staging in run.stages]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_relation_network_builds_on_no_encoder(stores, tmp_path):
    runs = [
        npbml(tmp_path, stores, relation="network", seed=seed, pretrain_lr=lr)
        for seed, lr in ((0, 0.1), (1, 0.2))
    ]
    assert runs[0].stages[0].hash != runs[1].stages[0].hash
    assert runs[0].stages[1].hash == runs[1].stages[1].hash


def test_its_episodes_are_as_large_as_the_benchmarks(first):
    run, _ = first
    settings = run.stages[1].identity["settings"]
    assert (settings["way"], settings["query"]) == (5, run.benchmark.query)


def test_it_is_no_pre_training_that_could_be_named(first, stores):
    run, _ = first
    pretraining, relation = (staging.folder.name for staging in run.stages)
    with pytest.raises(
        UsageError, match=f"{relation}: no such stage below .*; there are {pretraining}$"
    ):
        plan(run.workspace.runs.parent, stores, "maml", flags={"pretrained_from": relation, **TEST})


def test_where_no_loss_reads_scores_there_is_no_stage(stores, tmp_path):
    for off in ({"loss": "support"}, {"inductive": True}, {"relation_updates": 0}):
        run = npbml(tmp_path, stores, **off)
        assert [staging.stage.name for staging in run.stages] == ["pretrain"]


def test_an_untrained_row_has_no_stage(first, stores, tmp_path):
    run, _ = first
    without = untrained_settings(run)
    assert without == {"updates": 0, "relation_updates": 0, "pretrained_from": None}
    flags = {"backbone": PRE["backbone"], **TEST, **without}
    assert plan(tmp_path, stores, "npbml", flags=flags).stages == []

"""Stages: trained once, killed, resumed, shared, recorded, refused."""

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo.runs.checkpoints
from tests.conftest import blobs, episode_of
from tests.runs.test_run import KilledError, kill_at, numbers, plan
from zoo import Learner, learners, register
from zoo.errors import UsageError
from zoo.files import locked
from zoo.networks.backbone import build_backbone
from zoo.runs.estimate import Estimator
from zoo.runs.plan import Plan
from zoo.runs.pretraining import Pretrain
from zoo.runs.request import RunRequest
from zoo.runs.settings import PRETRAIN
from zoo.runs.stages import Staging
from zoo.stage import Stage, seeded

PRE = {
    "backbone": "conv4_strided[channels=8]", "pretrained_from": "pretrain", "pretrain_updates": 12,
    "pretrain_batch": 16, "pretrain_lr": 0.05, "pretrain_validations": 3,
    "pretrain_val_episodes": 10, "pretrain_augment": "crop jitter flip",
}  # fmt: skip
TEST = {"val_episodes": 10, "test_episodes": 10, "query": 3}
NO_UPDATES = {**PRE, **TEST, "updates": 0}


def pre(folder, stores, learner="pretrained", **options):
    flags = {**NO_UPDATES, **options.pop("flags", {})}
    return plan(folder, stores, learner, flags=flags, **options)


def weights_of(run):
    (staging,) = run.stages
    return torch.load(staging.folder / "weights.ckpt", weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def first(stores, tmp_path_factory):
    """A run that pre-trained."""
    torch.set_num_threads(1)
    run = pre(tmp_path_factory.mktemp("first"), stores)
    return run, run.execute(progress=False)


def test_the_record_says_what_was_trained(first):
    run, record = first
    (said,) = record["stages"]
    kept = json.loads((run.stages[0].folder / "stage.json").read_text())
    assert said["name"] == "pretrain" and said["hash"] == run.stages[0].hash == kept["hash"]
    assert said["seconds"] > 0 and said["updates"] == 12
    assert said["cpu_seconds"] == kept["cpu_seconds"] > 0
    best = max(kept["validation"], key=lambda point: point[1])
    assert said["selected"] == {"update": best[0], "accuracy": best[1]}
    assert [update for update, _ in kept["validation"]] == [4, 8, 12]
    assert record["settings"]["pretrain_lr"]["value"] == 0.05


def test_the_learner_starts_from_the_stage(first):
    run, _ = first
    assert same(run.learner.net.state_dict(), weights_of(run))


@pytest.mark.parametrize(
    ("learner", "options"),
    [("pretrained", {"seed": 1}), ("finetune", {}), ("maml", {"shot": 2}), ("protonet", {})],
)
def test_whoever_asks_for_the_same_shares_it(learner, options, first, stores, monkeypatch):
    monkeypatch.setattr(Staging, "_train", None)
    run = plan(first[0].workspace.runs.parent, stores, learner, flags=NO_UPDATES, **options)
    record = run.execute(progress=False)
    assert record["stages"] == first[1]["stages"]
    assert same(run.backbone.state_dict(), weights_of(first[0]))


def test_an_older_stage_knows_no_cpu_seconds(first, stores, tmp_path):
    """It is read as it is; the record says that they are not known, and that it has no checksum."""
    shutil.copytree(first[0].workspace.runs / "stages", tmp_path / "runs" / "stages")
    run = plan(tmp_path, stores, "finetune", flags=NO_UPDATES)
    path = run.stages[0].folder / "stage.json"
    kept = json.loads(path.read_text())
    for later in ("cpu_seconds", "checksum", "weights", "sources"):
        del kept[later]
    path.write_text(json.dumps(kept))
    record = run.execute(progress=False)
    (said,) = record["stages"]
    assert said == first[1]["stages"][0] | {"cpu_seconds": None, "unchecked": True}
    assert record["environment"]["unchecked"] == ["stage pretrain"]


def test_meta_training_starts_from_it(first, stores, tmp_path):
    """And is the same whether the stage was trained in this process or before."""
    flags = {**NO_UPDATES, "updates": 2, "validations": 1, "meta_batch": 2}
    here = plan(first[0].workspace.runs.parent, stores, "maml", flags=flags)
    there = plan(tmp_path, stores, "maml", flags=flags)
    flags = {name: value for name, value in flags.items() if not name.startswith(PRETRAIN)}
    alone = plan(tmp_path, stores, "maml", flags=flags)
    for run in (here, there, alone):
        run.execute(progress=False)
    found = [numbers(run)["net.head.weight"] for run in (here, there, alone)]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
    assert len({run.name for run in (here, there, alone)}) == 2


@pytest.mark.parametrize(
    ("hook", "count"),
    [
        ("on_train_batch_end", 1),
        ("on_train_batch_end", 6),
        ("on_validation_end", 1),
        ("on_train_end", 1),
    ],
)
def test_a_killed_stage_ends_as_an_undisturbed_one(
    hook, count, first, stores, tmp_path, monkeypatch
):
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)  # at every update
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, hook, count)
        pre(tmp_path, stores).execute(progress=False)
    run = pre(tmp_path, stores)
    assert not (run.stages[0].folder / "stage.json").exists()
    with monkeypatch.context() as patch:
        executed = []
        done = zoo.runs.checkpoints.CheckpointKeeper.on_train_batch_end
        patch.setattr(
            zoo.runs.checkpoints.CheckpointKeeper,
            "on_train_batch_end",
            lambda *words: (executed.append(1), done(*words)),
        )
        record = run.execute(progress=False)
    assert len(executed) < 12
    assert same(weights_of(run), weights_of(first[0]))
    assert record["stages"][0]["selected"] == first[1]["stages"][0]["selected"]
    assert record["metrics"] == first[1]["metrics"]


def test_a_second_process_waits(first, stores, capsys):
    run = pre(first[0].workspace.runs.parent, stores, seed=2)
    lock = run.stages[0].folder / "lock"
    got = []
    thread = threading.Thread(target=lambda: got.append(run.stages[0].ready("cpu", False)))
    with locked(lock, lambda holder: None):
        thread.start()
        time.sleep(0.3)
        assert not got
    thread.join(10)
    assert got and "waiting for it" in capsys.readouterr().err


def test_the_best_weights_are_kept(stores, tmp_path, monkeypatch):
    """Not the last: validation falls from update to update, so the first is best."""
    seen = []

    def fall(self, batch, batch_idx):
        if batch_idx == 0:
            seen.append({name: value.clone() for name, value in self.net.state_dict().items()})
        self.log("val/accuracy", 1 / (1 + len(seen)), batch_size=1)

    monkeypatch.setattr(Pretrain, "validation_step", fall)
    run = pre(tmp_path, stores)
    record = run.execute(progress=False)
    assert record["stages"][0]["selected"]["update"] == 4 and len(seen) == 3
    assert same(weights_of(run), seen[0]) and not same(weights_of(run), seen[2])


def test_what_it_follows_from_is_in_the_hash(stores, tmp_path, monkeypatch):
    def hash_of(stores=stores, **flags):
        return pre(tmp_path, stores, flags=flags).stages[0].hash

    other = blobs(30, seed=9)
    hashes = [
        hash_of(),
        hash_of({**stores, "train": other}),
        hash_of({**stores, "val": other}),
        hash_of(pretrain_lr=0.1),
        hash_of(pretrain_seed=1),
        hash_of(pretrain_augment=""),
        hash_of(backbone="conv4_strided[channels=4]"),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Pretrain, "version", 2)
        hashes.append(hash_of())
    assert len({*hashes}) == len(hashes)
    assert hash_of({**stores, "test": other}, test_episodes=5) == hashes[0]


def test_runs_without_a_stage_are_what_they_were(stores, tmp_path):
    """Their names, and with them their records, say nothing of a pre-training."""
    run = plan(tmp_path, stores)
    assert not run.stages and "stages" not in run.identity
    assert not [name for name in run.settings if name.startswith(PRETRAIN)]


def test_a_stage_may_be_named(first, stores, monkeypatch):
    monkeypatch.setattr(Staging, "_train", None)
    folder = first[0].workspace.runs.parent
    flags = {**TEST, "updates": 0, "backbone": PRE["backbone"]}
    flags["pretrained_from"] = first[0].stages[0].folder.name
    run = plan(folder, stores, "maml", flags=flags)
    assert run.execute(progress=False)["stages"] == first[1]["stages"]
    assert same(run.backbone.state_dict(), weights_of(first[0]))


def test_one_that_does_not_fit_is_refused_with_both_settings(first, stores):
    folder, name = first[0].workspace.runs.parent, first[0].stages[0].folder.name
    flags = {**TEST, "updates": 0, "pretrained_from": name, "backbone": "conv4_strided[channels=4]"}
    with pytest.raises(UsageError) as error:
        plan(folder, stores, "maml", flags=flags)
    said = str(error.value)
    assert "does not fit: backbone is conv4_strided[channels=8] there" in said
    assert "conv4_strided[channels=4] is asked for" in said and "\n" not in said
    with pytest.raises(UsageError, match=r"data train is \w+ there, \w+ is asked for"):
        others = {**stores, "train": blobs(30, seed=9)}
        plan(folder, others, "maml", flags={**flags, "backbone": PRE["backbone"]})
    with pytest.raises(UsageError, match=f"pretrain-x: no such stage below .*; there are {name}"):
        plan(folder, stores, "maml", flags={**flags, "pretrained_from": "pretrain-x"})


def test_one_that_was_changed_is_refused(stores, tmp_path):
    run = pre(tmp_path, stores)
    run.execute(progress=False)
    path = run.stages[0].folder / "stage.json"
    kept = json.loads(path.read_text())
    kept["identity"]["settings"]["lr"] = 0.5
    path.write_text(json.dumps(kept))
    with pytest.raises(UsageError, match="its checksum does not match; delete the folder"):
        pre(tmp_path, stores, seed=1)
    del kept["checksum"]  # as earlier code wrote it
    path.write_text(json.dumps(kept))
    with pytest.raises(UsageError, match=r"does not fit: lr is 0\.5 there, 0\.05 is asked for"):
        pre(tmp_path, stores, seed=1)
    path.write_text(json.dumps({**kept, "schema": 0}))
    with pytest.raises(UsageError, match="is no stage of this version of the zoo"):
        pre(tmp_path, stores, seed=1)
    path.write_text("{")
    with pytest.raises(UsageError, match="cannot be read as JSON; delete the folder"):
        pre(tmp_path, stores, seed=1)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"pretrained_from": None}, "--pretrain_updates belongs to a pre-training that is not"),
        ({"pretrain_head": "mlp"}, "--pretrain_head mlp: choose from linear, cosine"),
        ({"pretrain_drops": "0.5 2"}, "--pretrain_drops '0.5 2': expected shares"),
        ({"pretrain_drops": "half"}, "--pretrain_drops 'half': expected shares"),
        ({"pretrain_augment": "crop spin"}, "--pretrain_augment 'crop spin': 'spin' is no augm"),
        ({"pretrain_batch": 0}, "--pretrain_batch 0: expected a number of at least 1"),
        ({"pretrain_updates": 0}, "--pretrain_updates 0: expected a number of at least 1"),
        ({"backbone": "pixels"}, "backbone pixels has nothing to learn"),
        ({"updates": 4}, "--updates 4: pretrained on backbone"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_trained(flags, says, stores, tmp_path):
    with pytest.raises(UsageError) as error:
        pre(tmp_path, stores, flags=flags)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_functions_have_no_classes(tmp_path):
    with pytest.raises(UsageError, match="sinusoid has no classes to tell apart"):
        Plan(RunRequest("maml", "sinusoid", shot=5, flags={"pretrained_from": "pretrain"}))


def test_a_stage_that_diverges_is_said(stores, tmp_path):
    with pytest.raises(UsageError, match=r"stage pretrain failed at update \d+: the loss is nan"):
        pre(tmp_path, stores, flags={"pretrain_lr": 1e30}).execute(progress=False)


def test_without_validation_classes_the_last_weights_are_kept(stores, tmp_path):
    run = pre(tmp_path, {name: stores[name] for name in ("train", "test")})
    (said,) = run.execute(progress=False)["stages"]
    assert said["selected"] == {"update": 12, "accuracy": None}


def test_a_table_counts_a_stage_once(stores, tmp_path):
    runs = [pre(tmp_path, stores, seed=seed) for seed in (0, 1)]
    seconds = Estimator([Path(__file__).parents[2] / "results"]).pretrainings
    assert seconds(runs) == seconds(runs[:1]) > 0
    longer = pre(tmp_path, stores, flags={"pretrain_updates": 24})
    assert seconds([longer]) == pytest.approx(2 * seconds(runs))
    runs[0].execute(progress=False)
    assert seconds(runs) == 0


# --- a stage of a learner's own, on episodes, behind the pre-training


class Scale(Stage):
    """Learns a factor of the distances, on features of the frozen backbone."""

    name = "scale"
    batches = "episodes"

    def __init__(self, learner):
        settings = {
            "updates": 4, "validations": 2, "val_episodes": 4, "seed": 0, "query": 2, "way": 4,
            "shot": 2, "meta_batch": 2,
        }  # fmt: skip
        with seeded(0):
            super().__init__(torch.nn.Linear(1, 1), learner.factor, settings=settings)
        self.backbone = learner.net
        self.seen = None

    def training_step(self, batch, batch_idx):
        self.seen = {name: value.clone() for name, value in self.backbone.state_dict().items()}
        assert batch.way == 4 and batch.support.y.shape == (1, 8)
        return self.net(batch.query.x.mean().view(1, 1)).square().sum()

    def validation_step(self, batch, batch_idx):
        self.log("val/accuracy", 0.5, batch_size=batch.tasks)

    def configure_optimizers(self):
        return torch.optim.SGD(self.net.parameters(), lr=0.1)


def test_a_learner_may_have_stages_of_its_own(first, stores, registers):
    @register("scaled")
    class Scaled(Learner):
        title = family = "scaled"

        def __init__(self, backbone, way, *, outer_lr: float = 0.1):
            super().__init__(backbone.requires_grad_(False), way, outer_lr=outer_lr)
            self.factor = torch.nn.Linear(1, 1)

        def stages(self):
            return [Scale(self)]

        def forward(self, episode):
            return self.factor(torch.zeros(*episode.query.y.shape, episode.way, 1)).squeeze(-1)

    learners.get("scaled").__init__.__doc__ = None
    run = plan(first[0].workspace.runs.parent, stores, "scaled", flags=NO_UPDATES)
    record = run.execute(progress=False)
    assert [said["name"] for said in record["stages"]] == ["pretrain", "scale"]
    assert record["stages"][0] == first[1]["stages"][0]
    scale = run.stages[1]
    assert scale.identity["earlier"] == {"pretrain": run.stages[0].hash}
    assert same(scale.stage.seen, weights_of(first[0])), "the backbone had its weights before"
    kept = torch.load(scale.folder / "weights.ckpt", weights_only=True)
    assert same(run.learner.factor.state_dict(), kept)
    assert run.name != plan(run.workspace.runs.parent, stores, "scaled", flags={
        **NO_UPDATES, "pretrain_lr": 0.1}).name  # fmt: skip


# --- the pre-training stage by hand


def test_a_learner_may_have_put_more_into_its_backbone_but_nothing_less():
    net, target = (build_backbone("mlp", (1, 4, 4)) for _ in range(2))
    target.layers[0].film = torch.nn.Linear(1, 1)
    before = target.layers[0].film.weight.clone()
    stage = Pretrain(net, [target], 6, {"drops": "", "head": "linear"})
    stage.give()
    assert torch.equal(target.layers[1].weight, net.layers[1].weight)
    assert torch.equal(target.layers[0].film.weight, before)
    del target.layers[1]
    with pytest.raises(UsageError, match=r"no place for layers\.1\.weight, layers\.1\.bias"):
        stage.give()


def pretrain(net, **settings):
    values = {"lr": 0.1, "weight_decay": 0.01, "updates": 10, "drops": "0.5 0.8", "head": "linear"}
    return Pretrain(net, [net], 6, values | settings)


def test_the_rate_is_a_tenth_after_each_drop():
    stage = pretrain(build_backbone("mlp", (1, 4, 4)))
    (optimizer,), (schedule,) = stage.configure_optimizers()
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 0.01)
    rates = []
    for _ in range(10):
        rates.append(group["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert rates == pytest.approx([0.1] * 5 + [0.01] * 3 + [0.001] * 2)


def test_it_is_judged_by_nearest_class_means(monkeypatch):
    stage = pretrain(build_backbone("mlp", (1, 4, 4))).double()
    monkeypatch.setattr(stage, "log", lambda *words, **options: None)
    episode = episode_of(way=4, shot=3, query=5, tasks=2, image=(1, 4, 4))
    support, query = (part.x.double() for part in episode[:2])
    batch = episode._replace(
        support=episode.support._replace(x=support), query=episode.query._replace(x=query)
    )
    right = []
    for t in range(2):
        z, q = stage.net(support[t]), stage.net(query[t])
        means = torch.stack([z[episode.support.y[t] == n].mean(0) for n in range(4)])
        nearest = torch.cdist(q, means).argmin(1)
        right.append((nearest == episode.query.y[t]).double().mean())
    assert stage.validation_step(batch, 0).tolist() == pytest.approx([float(r) for r in right])

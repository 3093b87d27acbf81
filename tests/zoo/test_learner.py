"""What a learner inherits: the terms of its objective, and what its training log says of them."""

import csv

import pytest
import torch

import zoo
from zoo.conformance import Maker
from zoo.conformance.resuming import short_run
from zoo.losses import compare_gradients


def logged(make, folder):
    """The lines of a short run's log that training wrote."""
    run = short_run(make, folder, None)
    run.execute(progress=False)
    (path,) = (folder / "runs" / run.name / "log").glob("metrics.csv")
    with path.open() as file:
        return [line for line in csv.DictReader(file) if line["train/loss"]]


def test_the_log_tells_an_added_loss_from_its_hosts(tmp_path):
    """On every line here; the first is of the weights that training starts from."""
    lines = logged(Maker("trlearner", {"inner_steps": 1}, regression=True), tmp_path)
    assert len(lines) == 4
    for line in lines:
        host, added, total = (
            float(line[f"train/{name}"]) for name in ("host_loss", "added_loss", "loss")
        )
        assert host + added == pytest.approx(total, rel=1e-6) and added > 0
        assert 0 < float(line["train/gradient_ratio"]) < 2
        assert -1 <= float(line["train/gradient_cosine"]) <= 1


def test_what_is_logged_changes_nothing(tmp_path, monkeypatch):
    """Trained without it, the weights are the same."""
    ends = []
    for name in ("with", "without"):
        run = short_run(Maker("trlearner", regression=True), tmp_path / name, None)
        run.execute(progress=False)
        ends.append(run.watch.weights)
        monkeypatch.setattr("zoo.learner.Learner.log_gradient_comparison", lambda *_: None)
    assert all(torch.equal(p, ends[1][n]) for n, p in ends[0].items())


def test_the_gradients_of_added_losses_are_compared_once_an_update(monkeypatch):
    """Also where the update computes its tasks in parts: two further backward passes, not more."""
    learner, batch = Maker("maml", {"inner_steps": 1})(), Maker("maml").episode()
    own = type(learner)

    def two_terms(self, part):
        loss = self(part).square().mean()
        return {"host": loss, "more": loss}

    monkeypatch.setattr(own, "loss_terms", two_terms)
    compared = []
    monkeypatch.setattr(own, "log_gradient_comparison", lambda self, terms: compared.append(terms))
    monkeypatch.setattr(own, "log", lambda *_, **__: None)
    monkeypatch.setattr(own, "log_dict", lambda *_, **__: None)
    learner.micro_batch = 1
    assert batch.tasks > 1
    learner.training_step(batch, 0)
    assert len(compared) == 1


def test_no_added_loss_is_logged_where_there_is_none(tmp_path):
    for line in logged(Maker("maml", {"inner_steps": 1}, regression=True), tmp_path):
        assert not [name for name in line if "host_loss" in name or "gradient" in name]


def test_the_objective_is_the_sum_of_its_terms():
    make = Maker("trlearner", {"host": "protonet"})
    learner, batch = make(), make.episode()
    terms = learner.loss_terms(batch)
    torch.testing.assert_close(learner.meta_loss(batch), sum(terms.values()))
    assert learner.adds_losses and not Maker("protonet")().adds_losses
    ratio, _ = compare_gradients(*terms.values(), learner.parameters())
    assert ratio > 0


ProtoNet, MAML = zoo.learners.get("protonet"), zoo.learners.get("maml")


class HandsOn(ProtoNet):
    """A user's subclass, written in the shortest way."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class WithMore(ProtoNet):
    """One with a setting of its own."""

    def __init__(self, backbone, way, *, extra=1, **kwargs):
        super().__init__(backbone, way, **kwargs)
        self.extra = extra


class Both(MAML):
    """One that gives its parent a value itself."""

    def __init__(self, *args, extra=1, **kwargs):
        super().__init__(*args, inner_lr=0.2, **kwargs)
        self.extra = extra


class Further(Both):
    """Nothing but hands on, to one that does so too."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize(
    ("cls", "settings", "kept"),
    [
        (HandsOn, {"outer_lr": 0.01}, {"outer_lr": 0.01}),
        (WithMore, {"outer_lr": 0.01}, {"extra": 1, "outer_lr": 0.01}),
        (WithMore, {"extra": 2}, {"extra": 2}),
        (Both, {"outer_lr": 0.01}, {"extra": 1, "outer_lr": 0.01}),
        (Further, {"extra": 3, "first_order": True}, {"extra": 3, "first_order": True}),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_settings_that_a_constructor_hands_on(cls, settings, kept, named, tmp_path):
    """Are in `hparams` under their own names, and come back with a checkpoint."""
    net = zoo.build_backbone("conv4_strided[channels=4]", (1, 28, 28))
    learner = cls(backbone=net, way=3, **settings) if named else cls(net, 3, **settings)
    given = {"backbone": net.variant, "image": [1, 28, 28], "way": 3, "outer_decay": "paper"}
    assert dict(learner.hparams) == given | kept
    path = tmp_path / "kept.ckpt"
    parts = {"hyper_parameters": dict(learner.hparams), "state_dict": learner.state_dict()}
    torch.save(parts, path)
    again = cls.load_from_checkpoint(path)
    assert again.hparams == learner.hparams and again.outer_lr == learner.outer_lr
    assert getattr(again, "extra", None) == getattr(learner, "extra", None)
    assert cls.load_from_checkpoint(path, outer_lr=0.5).outer_lr == 0.5
    for name, value in learner.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)

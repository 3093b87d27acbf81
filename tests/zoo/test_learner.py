"""What a learner inherits: the terms of its objective, and what its training log says of them."""

import csv

import pytest
import torch

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
        monkeypatch.setattr("zoo.learner.Learner.log_pull", lambda *_: None)
    assert all(torch.equal(p, ends[1][n]) for n, p in ends[0].items())


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

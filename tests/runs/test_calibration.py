"""Probabilities that can be trusted: temperature, calibration error, and the price of rejecting."""

import json
import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from tests.conftest import blobs
from tests.runs.test_run import SMALL, plan
from zoo import Episode, Examples
from zoo.datasets.episodes.data_module import rows_of
from zoo.runs.calibration import (
    Calibration,
    calibrate,
    calibration_error,
    episodes_and_strangers,
    fit_temperature,
    measured,
    one_by_one,
    rejection_curve,
    whole_episode,
    without_class,
)
from zoo.runs.prediction import query_logits
from zoo.runs.weights import read_weights, weights_path


def drawn(temperature: float, n: int = 20_000, ways: int = 5):
    """Labels drawn from the softmax of logits, and the logits times a temperature."""
    g = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, ways, generator=g)
    y = torch.multinomial(logits.softmax(-1), 1, generator=g)[:, 0]
    return temperature * logits, y


@pytest.mark.parametrize("temperature", [0.2, 1.0, 7.0])
def test_the_temperature_that_the_labels_were_drawn_with(temperature):
    logits, y = drawn(temperature)
    assert fit_temperature(logits, y) == pytest.approx(temperature, rel=0.03)
    assert calibration_error(logits, y, temperature) < 0.015
    if temperature != 1:
        assert calibration_error(logits, y, 1.0) > 0.1


def test_the_calibration_error_by_hand():
    """Four predictions of probability 0.8, half of them right; one of 1/2 + 1/2, wrong or right."""
    z = torch.tensor([[math.log(4.0), 0.0]] * 4)
    y = torch.tensor([0, 0, 1, 1])
    assert calibration_error(z, y, 1.0) == pytest.approx(0.3)
    both = torch.cat([z, torch.tensor([[20.0, 0.0]] * 4)])
    labels = torch.cat([y, torch.zeros(4, dtype=torch.int64)])
    assert calibration_error(both, labels, 1.0) == pytest.approx(0.15)


def test_the_rejection_curve_by_hand():
    known = torch.log(torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.45, 0.55]]))
    unknown = torch.log(torch.tensor([[0.6, 0.4], [0.95, 0.05]]))
    curve = {row[0]: row[1:] for row in rejection_curve(known, torch.tensor([0, 1, 1]), unknown)}
    assert curve[0.0] == pytest.approx((1.0, 2 / 3, 0.0))
    assert curve[0.65] == pytest.approx((2 / 3, 0.5, 0.5))
    assert curve[0.8] == pytest.approx((1 / 3, 1.0, 0.5))
    assert len(curve) == 23


def test_an_episode_without_one_of_its_classes():
    """The others keep their images and move up; the queries of the class are the strangers."""
    y = torch.tensor([[2, 0, 1, 3, 1, 0, 2, 3]])
    x = y.float()[..., None]  # an image tells its class
    episode, outside = without_class(Episode(Examples(x, y), Examples(x, y), 4), 1)
    assert episode.way == outside.way == 3 and torch.equal(episode.support.x, outside.support.x)
    for part in episode[:2]:
        assert part.x.flatten().tolist() == [2, 0, 3, 0, 2, 3]
        assert part.y.tolist() == [[1, 0, 2, 0, 1, 2]]
    assert outside.query.x.flatten().tolist() == [1, 1] and outside.query.y.tolist() == [[0, 0]]


@pytest.mark.parametrize("learner", ["protonet", "npbml[inductive=true]", "maml"])
def test_rejecting_where_validation_has_only_the_classes_of_an_episode(learner, stores, tmp_path):
    """Measured with one class taken out; of a learner with an output a class it cannot be."""
    few = {**stores, "val": blobs(5, seed=1)}
    flags = {**SMALL, "updates": 2, "validations": 1, "train_way": 5, "pretrained_from": None}
    flags |= {"relation_updates": 0} if "npbml" in learner else {}
    run = plan(tmp_path, few, learner, flags=flags)
    found = calibrate(run.learner, run.data)
    assert found.way == 5 and found.queries == 20 * 5 * 3
    if run.learner.fixed_way:
        assert found.rejection is None and found.rejection_way is None
        return
    assert found.rejection_way == 4
    assert found.rejection[0][1] == 1 and found.rejection[0][3] == 0
    rejected = [row[3] for row in found.rejection]
    assert rejected == sorted(rejected) and rejected[-1] > 0.5
    enough = calibrate(run.learner, plan(tmp_path, stores, learner, flags=flags).data)
    assert enough.rejection_way == 5


def test_strangers_are_of_other_classes(stores, tmp_path):
    """They are queries of the episode before; those of a class that is in both are left out."""
    run = plan(tmp_path, stores)
    classes = run.data.samplers["val"].indices(0, 8).classes
    pairs = [*episodes_and_strangers(run.data, 8, torch.device("cpu"))]
    assert len(pairs) == 8 and pairs[0][1] is None
    shared = 0
    for number in range(1, 8):
        episode, outside = pairs[number]
        before = pairs[number - 1][0]
        new = [c not in classes[number] for c in classes[number - 1]]
        shared += new.count(False)
        assert torch.equal(outside.support.x, episode.support.x)
        expected = before.query.x.unflatten(1, (5, -1))[:, torch.tensor(new)].flatten(1, 2)
        assert torch.equal(outside.query.x, expected)
    assert shared  # the store has few enough classes that some are in both


def test_a_record_and_its_weights_say_it(stores, tmp_path):
    """Of the validation episodes, the same each time; without validation classes there is none."""
    run = plan(tmp_path, stores, "protonet", flags={**SMALL, "train_way": 5})
    record = run.execute(progress=False)
    found = record["calibration"]
    assert {*found} == {*Calibration._fields}
    assert found["episodes"] == 20 and 0.01 < found["temperature"] < 100
    assert 0 <= found["ece"] <= 1 and found["ece"] < found["ece_before"] + 0.1
    coverage = [row[1] for row in found["rejection"]]
    rejected = [row[3] for row in found["rejection"]]
    assert coverage[0] == 1 and coverage == sorted(coverage, reverse=True)
    assert rejected[0] == 0 and rejected == sorted(rejected)
    _, about = read_weights(weights_path(run.record_path))
    assert about["calibration"] == found
    again = calibrate(run.learner, run.data)
    assert json.loads(json.dumps(again.as_json())) == found
    fewer = {name: stores[name] for name in ("train", "test")}
    without = plan(tmp_path / "less", fewer, "protonet",
                   flags={**SMALL, "train_way": 5})  # fmt: skip
    assert "calibration" not in without.execute(progress=False)


@pytest.mark.parametrize(("text", "asked"), [("maml", 5), ("reptile[test_steps=5]", 1)])
def test_a_transductive_learner_is_measured_one_query_at_a_time_too(text, asked, stores, tmp_path):
    """As `zoo predict` classifies photos; where adapting is dear, one query an episode."""
    run = plan(tmp_path, stores, text, flags=SMALL)
    pl.seed_everything(0, verbose=False)
    found = calibrate(run.learner, run.data)
    assert found.alone.queries == asked * found.episodes and found.alone.alone is None
    assert found.queries == found.episodes * 5 * run["query"]
    assert (found.alone.rejection is None) == (asked == 1)
    if asked == 5:  # untrained, but adapted; of a single image it would predict by chance
        assert found.alone.accuracy > found.accuracy - 0.15 > 0.3
    kept = json.loads(json.dumps(found.as_json()))
    assert kept["alone"]["temperature"] == found.alone.temperature

    with torch.no_grad():
        pairs = [*episodes_and_strangers(run.data, 3, torch.device("cpu"))]
        number, (episode, outside) = 2, pairs[2]
        logits, labels, others = one_by_one(run.learner, episode, outside, number)
        pixels = raw_pixels(run, number)
        places = [(label, 0) for label in range(5)] if asked == 5 else [(number % 5, 0)]
        rows = np.stack([pixels[place] for place in places])
        expected = query_logits(run.learner, episode.support, rows, alone=True)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
    assert labels.tolist() == [label for label, _ in places]
    assert len(others) == (asked == 5)


def raw_pixels(run, number):
    """The queries of a validation episode as bytes, (N, Q, C, H, W)."""
    store, sampler = run.data.stores["val"], run.data.samplers["val"]
    rows = rows_of(store, sampler.indices(number, 1))[0][:, : sampler.query]
    return store.images.numpy()[rows]


def test_on_features_where_a_learner_allows_it(stores, tmp_path, monkeypatch):
    """The same numbers but for rounding, and each image goes through the network once."""
    run = plan(tmp_path, stores, "protonet", flags={**SMALL, "train_way": 5})
    seen = []
    run.learner.net.register_forward_pre_hook(lambda net, x: seen.append(len(x[0])))
    found = calibrate(run.learner, run.data)
    drawn = run.data.samplers["val"].indices(0, found.episodes)
    assert sum(seen) == len(np.unique(rows_of(run.data.stores["val"], drawn)))
    run.learner.eval()
    with torch.no_grad():
        slow = measured(run.learner, run.data, found.episodes, whole_episode)
    assert sum(seen) > 3 * len(np.unique(rows_of(run.data.stores["val"], drawn)))
    assert found.temperature == pytest.approx(slow.temperature, rel=1e-3)
    assert found.accuracy == pytest.approx(slow.accuracy, abs=0.01)


def test_what_is_not_finite_is_not_calibrated(stores, tmp_path, monkeypatch):
    run = plan(tmp_path, stores, "protonet", flags={**SMALL, "train_way": 5})
    forward = type(run.learner).forward
    monkeypatch.setattr(type(run.learner), "forward", lambda self, e: forward(self, e) * np.inf)
    assert calibrate(run.learner, run.data) is None

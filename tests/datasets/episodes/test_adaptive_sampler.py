"""The adaptive sampler: chosen by scores, by the seed, for every learner, in training alone."""

import numpy as np
import pytest
import torch

import zoo.datasets.episodes.adaptive_sampler
from tests.runs.test_run import SMALL, KilledError, kill_at, numbers, plan
from tests.runs.test_settings import NO_EPISODES
from zoo import learners
from zoo.datasets.episodes.adaptive_sampler import CANDIDATES, AdaptiveBatches, drawn_by
from zoo.errors import UsageError
from zoo.runs.request import RunRequest
from zoo.runs.run import Run

ADAPTIVE = {**SMALL, "sampler": "adaptive"}


def chosen(run: Run, updates: int = 3) -> list[np.ndarray]:
    """The classes and images of each update's tasks."""
    batches = run.data.train_dataloader()
    assert isinstance(batches, AdaptiveBatches)
    return [part for update in range(updates) for part in batches.choose(update)[1]]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_places_are_drawn_by_the_softmax_of_their_scores():
    scores, random = np.log([1.0, 2.0, 5.0]), np.random.default_rng(0).random((20000, 3))
    first = [drawn_by(scores, r, 1)[0] for r in random]
    np.testing.assert_allclose(np.bincount(first) / 20000, [1 / 8, 2 / 8, 5 / 8], atol=0.015)
    pairs = np.array([drawn_by(scores, r, 2) for r in random])
    assert (pairs[:, 0] < pairs[:, 1]).all()
    without_the_last = (pairs[:, 1] == 1).mean()  # 1 then 2, or 2 then 1, without replacement
    assert without_the_last == pytest.approx(1 / 8 * 2 / 7 + 2 / 8 * 1 / 6, abs=0.01)
    assert drawn_by(np.array([0.0, 1000.0]), np.array([0.999, 0.0]), 1).tolist() == [1]


def test_the_choice_follows_from_seed_and_weights(stores, tmp_path):
    run = plan(tmp_path, stores, flags=ADAPTIVE)
    expected = chosen(run)
    assert same(chosen(plan(tmp_path, stores, flags=ADAPTIVE)), expected)
    assert not same(chosen(plan(tmp_path, stores, flags=ADAPTIVE, seed=1)), expected)
    with torch.no_grad():
        for p in run.backbone.parameters():
            p.mul_(torch.rand_like(p))
    assert not same(chosen(run), expected)


def test_the_chosen_are_of_the_candidates_and_score_higher(stores, tmp_path):
    """Over 40 updates: by about a deviation."""
    run = plan(tmp_path, stores, flags=ADAPTIVE)
    batches = run.data.train_dataloader()
    gains = []
    for update in range(40):
        candidates = batches.episode_sampler.indices(update * CANDIDATES * 4, CANDIDATES * 4)
        scores = batches.scores(*batches.supports(candidates))
        assert scores.mean().abs() < 1e-4
        numbers, found = batches.choose(update)
        places = [
            next(i for i in range(16) if np.array_equal(candidates.images[i], images))
            for images in found.images
        ]
        assert len(set(places)) == 4 and places == sorted(places)
        assert numbers.tolist() == [update * CANDIDATES * 4 + place for place in places]
        gains.append(scores[places].mean())
    assert torch.stack(gains).mean() > 0.5


def test_augmentation_is_that_of_the_chosen(stores, tmp_path):
    """Of the episodes' numbers among the candidates."""
    flags = {**ADAPTIVE, "augment": "shift"}
    run = plan(tmp_path, stores, flags=flags)
    batches = run.data.train_dataloader()
    numbers = np.concatenate([batches.choose(update)[0] for update in range(12)])
    expected = run.data.samplers["train"].augmentation_keys(numbers)
    keys = np.concatenate([batch.keys for batch in run.data.train_dataloader()])
    assert np.array_equal(keys, expected)


def test_scores_are_of_the_weights_at_hand(stores, tmp_path, monkeypatch):
    """Of those that the update before left, nothing is drawn ahead."""
    at, original = [], AdaptiveBatches.choose

    def watched(self, update):
        at.append((update, run.learner.global_step))
        return original(self, update)

    monkeypatch.setattr(zoo.datasets.episodes.adaptive_sampler.AdaptiveBatches, "choose", watched)
    run = plan(tmp_path, stores, flags={**ADAPTIVE, "micro_batch": 2})
    run.execute(progress=False)
    assert at == [(u, u) for u in range(12)]


def test_a_killed_training_goes_on_with_the_same_bits(stores, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    whole = plan(tmp_path / "whole", stores, flags=ADAPTIVE)
    whole.execute(progress=False)
    monkeypatch.setattr("zoo.runs.checkpoints.SECONDS_BETWEEN_SAVES", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_train_batch_end", 7)
        plan(tmp_path / "killed", stores, flags=ADAPTIVE).execute(progress=False)
    killed = plan(tmp_path / "killed", stores, flags=ADAPTIVE)
    killed.execute(progress=False)
    for name, value in numbers(whole).items():
        assert np.array_equal(numbers(killed)[name], value), name


@pytest.mark.parametrize("key", [key for key in learners.names() if key not in NO_EPISODES])
def test_every_learner_can_have_it(key, stores, tmp_path):
    flags = {"meta_batch": 2, "updates": 2, "sampler": "adaptive", "pretrained_from": None}
    run = plan(tmp_path, stores, key, flags=flags, budget="smoke")
    assert len(chosen(run, 2)) == 6


def test_it_is_of_training_alone(stores, tmp_path):
    adaptive, plain = (plan(tmp_path, stores, flags=f) for f in (ADAPTIVE, SMALL))
    assert adaptive.data.test_fingerprint() == plain.data.test_fingerprint()
    for loader in ("val_dataloader", "test_dataloader"):
        for a, b in zip(*(getattr(r.data, loader)() for r in (adaptive, plain)), strict=True):
            assert torch.equal(a.x, b.x)


def test_runs_without_it_keep_their_names(stores, tmp_path):
    plain = plan(tmp_path, stores)
    assert "sampler" not in plain.identity["settings"]
    assert plan(tmp_path, stores, flags={**SMALL, "sampler": "plain"}).name == plain.name
    assert plan(tmp_path, stores, flags=ADAPTIVE).name != plain.name


def test_bad_samplers():
    with pytest.raises(UsageError, match="--sampler clever: choose from plain, adaptive"):
        Run(RunRequest("maml", "glyphs", flags={"sampler": "clever"}))
    with pytest.raises(UsageError, match="chooses by classes, and sinusoid is regression"):
        Run(RunRequest("maml", "sinusoid", flags={"sampler": "adaptive"}))

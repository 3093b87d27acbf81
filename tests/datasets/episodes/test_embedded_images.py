"""Tests on features: every image that the test uses is embedded once."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import zoo.runs.checkpoints
from tests.datasets.episodes.test_data_module import SETTINGS, coded, module
from tests.runs.test_run import SMALL, KilledError, kill_at, numbers_of, plan
from tests.runs.test_settings import NO_EPISODES
from zoo import learners
from zoo.datasets.episodes.data_module import FEATURE_TASKS
from zoo.runs.run import Run

EPISODES = 2 * FEATURE_TASKS + 5
FLAGS = {**SMALL, "updates": 4, "validations": 1, "test_episodes": EPISODES}


@pytest.mark.parametrize("tested", [0, 6])
def test_an_image_is_embedded_once_if_it_is_used_and_never_if_not(tested):
    """By the whole test: what is left of one that was killed would make up other batches."""
    data = module()
    data.tested = tested
    seen: Counter[tuple[int, ...]] = Counter()

    def network(x):
        seen.update(tuple(image.tolist()) for image in (255 * x[:, 0, 0]).round().int())
        return x.flatten(1)

    features = data.embedded(network).stores["test"]
    indices = data.test_indices()
    classes = indices.classes[..., None].repeat(indices.images.shape[-1], -1)
    used = set(zip(classes.ravel().tolist(), indices.images.ravel().tolist(), strict=True))
    assert set(seen) == used and set(seen.values()) == {1}
    assert features.images.shape == (len(used), 4) and len(used) < len(coded().images)
    unused = np.setdiff1d(np.arange(240), [20 * c + image for c, image in used])
    with pytest.raises(IndexError):
        features.gather(torch.from_numpy(unused[:1]))


@pytest.mark.parametrize("tested", [0, FEATURE_TASKS])
def test_episodes_of_features_are_the_episodes(tested):
    """The features are the normalised pixels here."""
    settings = {**SETTINGS, "test_episodes": EPISODES}
    images = module(settings=settings, eval_batch=FEATURE_TASKS)
    images.tested = tested
    features = images.embedded(lambda x: x.flatten(1))
    pairs = zip(images.test_dataloader(), features.test_dataloader(), strict=True)
    count = 0
    for pixels, flat in pairs:
        expected = images.on_after_batch_transfer(pixels, 0)
        got = features.on_after_batch_transfer(flat, 0)
        for a, b in zip(got[:2], expected[:2], strict=True):
            assert torch.equal(a.x, b.x.flatten(2)) and torch.equal(a.y, b.y)
        count += got.tasks
    assert got.way == 5 and count == EPISODES - tested
    assert features.test_fingerprint() == images.test_fingerprint()


def test_a_test_begun_with_other_batches_goes_on_where_it_was():
    data = module(eval_batch=3)
    everything = torch.cat([batch.x for batch in data.test_dataloader()])
    data.tested = 4
    loader = data.test_dataloader()
    rest = [batch.x for batch in loader]
    assert len(rest) == len(loader) == -(-(len(everything) - 4) // 3)
    assert torch.equal(torch.cat(rest), everything[4:])


def flags(key: str) -> dict[str, Any]:
    """References learn nothing in episodes; here nothing before them either."""
    return FLAGS | ({"updates": 0, "pretrained_from": None} if key in NO_EPISODES else {})


def alone(key: str, stores, folder) -> Run:
    run = plan(folder, stores, key, flags=flags(key))
    if not run.learner.embeds_alone:
        pytest.skip("not embeds_alone")
    return run


def test_what_is_kept_of_a_batch_holds_no_memory_of_its_step(tmp_path):
    """Else the tensors of ten thousand episodes leave holes: 1.5 GB more, measured."""
    recorder = zoo.runs.checkpoints.TestRecorder(tmp_path)
    trainer = SimpleNamespace(world_size=1)
    recorder.on_test_batch_end(trainer, None, {"accuracy": torch.ones(3)}, None, 0)
    assert recorder.parts[0]["accuracy"].flags.owndata


@pytest.mark.parametrize("key", learners.names())
def test_the_record_is_that_of_the_images(key, stores, tmp_path):
    run = alone(key, stores, tmp_path / "features")
    embedded: list[int] = []
    run.train = lambda *_: run.learner.net.register_forward_hook(
        lambda net, x, z: embedded.append(len(z))
    )
    run.calibrated = lambda: None  # it embeds validation images
    run.execute(progress=False)
    store, indices = stores["test"], run.data.test_indices()
    rows = store.offsets[indices.classes][..., None] + indices.images
    assert sum(embedded) == len(np.unique(rows))
    ordinary = plan(tmp_path / "images", stores, key, flags=flags(key))
    ordinary.learner.embeds_alone = False
    ordinary.train = lambda *_: None
    ordinary.execute(progress=False)
    got, expected = numbers_of(run), numbers_of(ordinary)
    assert got.keys() == expected.keys()
    assert np.array_equal(got["prediction"], expected["prediction"])
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("key", learners.names())
def test_a_killed_test_goes_on_with_the_same_bits(key, stores, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    whole = alone(key, stores, tmp_path / "whole")
    whole.execute(progress=False)
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_test_batch_end", 2)
        plan(tmp_path / "killed", stores, key, flags=flags(key)).execute(progress=False)
    killed = plan(tmp_path / "killed", stores, key, flags=flags(key))
    record = killed.execute(progress=False)
    assert record["test_passes_begun"] == 1
    assert killed.data.tested == 2 * FEATURE_TASKS
    for name, value in numbers_of(whole).items():
        assert np.array_equal(numbers_of(killed)[name], value), name

"""Training tasks from a few superclasses."""

import numpy as np
import pytest

from zoo.datasets import splits
from zoo.datasets.episodes.hash_random import key_of
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.episodes.sampler import EpisodeSampler
from zoo.datasets.episodes.superclass_sampler import PooledSampler
from zoo.errors import UsageError
from zoo.runs.request import RunRequest
from zoo.runs.run import Run

SUPERCLASSES = [f"s{c % 4}" for c in range(20)]  # 5 classes each


def sampler(pool, way=5, meta_batch=4, superclasses=SUPERCLASSES):
    plain = EpisodeSampler(np.full(20, 8), way, 1, 3, key_of("train", 0))
    return plain, PooledSampler(plain, superclasses, pool, meta_batch)


def supers(row):
    return {SUPERCLASSES[c] for c in row}


def test_an_updates_tasks_share_their_superclasses():
    _, one = sampler(1)
    classes = one.indices(0, 400).classes.reshape(100, 4, 5)
    assert all(len(supers(task)) == 1 and len(set(task)) == 5 for u in classes for task in u)
    pools = [supers(update.ravel()) for update in classes]
    assert all(len(pool) == 1 for pool in pools)
    counts = np.unique([min(pool) for pool in pools], return_counts=True)[1]
    assert len(counts) == 4 and counts.min() > 10  # each has its turn
    _, two = sampler(2)
    classes = two.indices(0, 400).classes.reshape(100, 4, 5)
    assert all(len(supers(update.ravel())) == 2 for update in classes)
    assert len({frozenset(supers(update.ravel())) for update in classes}) == 6
    _, whole = sampler(4)
    assert len(np.unique(whole.indices(0, 400).classes)) == 20


def test_they_follow_from_their_number():
    plain, one = sampler(1)
    a, b = one.indices(0, 40), one.indices(16, 8)
    for whole, part in zip(a, b, strict=True):
        assert np.array_equal(whole[16:24], part)
    for ours, theirs in zip(one.indices(0, 40)[1:], plain.indices(0, 40)[1:], strict=True):
        assert np.array_equal(ours, theirs)  # images and their order are as they were


def test_bad_pools():
    with pytest.raises(UsageError, match="--superclasses 5: the training split has 4"):
        sampler(5)
    with pytest.raises(UsageError, match="have 5 classes together, fewer than --train_way 6"):
        sampler(1, way=6)


def test_fc100_has_superclasses(tmp_path):
    """Of its training classes twelve, five classes each."""
    stores = {
        split: Store.from_arrays(names, np.zeros((len(names), 20, 3, 32, 32), np.uint8))
        for split, names in splits.cifar100("fc100").items()
    }
    flags = {"superclasses": 1, "train_way": 5, "meta_batch": 4}
    run = Run(RunRequest("protonet", "fc100", flags=flags), stores=stores)
    of = splits.coarse_names()
    classes = run.data.samplers["train"].indices(0, 40).classes.reshape(10, 20)
    pools = [{of[stores["train"].names[c]] for c in update} for update in classes]
    assert all(len(pool) == 1 for pool in pools) and len(set(map(frozenset, pools))) > 4
    assert run["superclasses"] == 1
    plain = Run(RunRequest("protonet", "fc100"), stores=stores)
    assert plain["superclasses"] is None and "superclasses" not in plain.identity["settings"]


def test_settings_say_it_and_refuse_it(stores):
    for flags, says in (
        ({"superclasses": 2}, "--superclasses 2: glyphs has none"),
        ({"superclasses": 2, "sampler": "adaptive"}, "not with --sampler adaptive"),
        ({"superclasses": 0}, "--superclasses 0: expected a number of at least 1"),
    ):
        with pytest.raises(UsageError, match=says):
            Run(RunRequest("protonet", "glyphs", flags=flags), stores=stores)

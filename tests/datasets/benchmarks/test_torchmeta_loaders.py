"""Loaders like torchmeta's as a benchmark: seeded episode by episode, and refused in a line."""

import random
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.support import torchmeta_like
from zoo.datasets.benchmarks.torchmeta_episodes import LoaderEpisodes, check_hash
from zoo.datasets.benchmarks.torchmeta_loaders import TorchmetaLoaders, loaders_of_function
from zoo.datasets.episodes.hash_random import key_of
from zoo.errors import UsageError

KEY = key_of("train", 0)


def served(episodes: LoaderEpisodes, first: int, tasks: int, key=KEY):
    drawn = episodes.sampler(*episodes.shape[:3], key)
    return episodes.meta_batch(drawn, drawn.indices(first, tasks))


def equal(a, b) -> bool:
    return all(
        torch.equal(left, right) for left, right in zip([*a[0], *a[1]], [*b[0], *b[1]], strict=True)
    )


def test_an_episode_is_the_same_whatever_came_before():
    batch = served(LoaderEpisodes(torchmeta_like.loader(), "here"), 0, 6)
    alone = served(LoaderEpisodes(torchmeta_like.loader(), "here"), 4, 1)
    for whole, part in zip(
        [*batch.support, *batch.query], [*alone.support, *alone.query], strict=True
    ):
        assert torch.equal(whole[4:5], part)
    other = served(LoaderEpisodes(torchmeta_like.loader(), "here"), 4, 1, key_of("train", 1))
    assert not equal(alone, other)


def test_episodes_differ_and_the_callers_random_numbers_stay():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    batch = served(LoaderEpisodes(torchmeta_like.loader(), "here"), 0, 8)
    assert len({x.numpy().tobytes() for x in batch.query.x}) == 8
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_an_episode_has_the_form_that_learners_expect():
    batch = served(LoaderEpisodes(torchmeta_like.loader(shot=2), "here"), 0, 3)
    assert batch.way == 5
    assert batch.support.x.shape == (3, 10, 1, 28, 28) and batch.support.x.dtype == torch.float32
    assert batch.query.y.shape == (3, 15) and batch.query.y.dtype == torch.int64
    by_class = torch.arange(5).repeat_interleave(3)
    assert all(torch.equal(y, by_class) for y in batch.query.y)  # as our own episodes have it
    orders = {tuple(y.tolist()) for y in batch.support.y}
    assert len(orders) == 3  # random, as learners of sequences want it
    means = torch.stack([batch.support.x[0, batch.support.y[0] == c].mean(0) for c in range(5)])
    nearest = torch.cdist(batch.query.x[0].flatten(1), means.flatten(1)).argmin(1)
    assert torch.equal(nearest, by_class)  # each image kept its own label


def test_workers_load_the_same_episodes():
    plain = served(LoaderEpisodes(torchmeta_like.loader(), "here"), 2, 5)
    ahead = LoaderEpisodes(torchmeta_like.loader(num_workers=2), "here")
    drawn = ahead.sampler(*ahead.shape[:3], KEY)
    for number in range(2, 7):  # one by one, as batches come
        got = ahead.meta_batch(drawn, drawn.indices(number, 1))
        assert torch.equal(got.support.x[0], plain.support.x[number - 2])
    assert equal(ahead.meta_batch(drawn, drawn.indices(2, 5)), plain)  # and once more


def test_regression_is_told_by_its_targets():
    benchmark = TorchmetaLoaders(torchmeta_like.lines())
    assert benchmark.regression and benchmark.outputs == 1 and benchmark.image == (1,)
    assert benchmark.key == "torchmeta_functions" and benchmark.backbone == "mlp"
    episode = served(benchmark.episodes["train"], 0, 2)
    assert episode.support.y.shape == (2, 10, 1) and episode.query.x.shape == (2, 5, 1)
    assert episode.support.x.dtype == torch.float32


def test_what_identifies_the_data():
    prints = [LoaderEpisodes(torchmeta_like.loader(split), "").fingerprint for split in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    assert prints[0].startswith("torchmeta ")


def test_a_function_is_called_once():
    name = "tests.support.torchmeta_like:loaders"
    assert loaders_of_function(name) is loaders_of_function(name)
    assert loaders_of_function(name).variant == f"torchmeta[loaders={name}]"
    assert [file.file for file in loaders_of_function(name).files] == ["torchmeta_like.py"]


def changed(change):
    """A loader whose tasks are changed."""
    plain = torchmeta_like.loader()
    collate = lambda tasks: torchmeta_like.collate([change(task) for task in tasks])  # noqa: E731
    return DataLoader(plain.dataset, 4, sampler=torchmeta_like.Combinations(), collate_fn=collate)


def relabelled(label):
    def change(task):
        return OrderedDict((part, [(x, label(y)) for x, y in task[part]]) for part in task)

    return change


BAD = {
    "no loader": (lambda: [1, 2], "a list; expected a BatchMetaDataLoader"),
    "other parts": (
        lambda: changed(lambda task: OrderedDict(a=task["train"], b=task["test"])),
        "batches have parts a, b; expected train and test, or support and query",
    ),
    "no Categorical": (
        lambda: changed(relabelled(lambda y: f"class {y}")),
        "targets are list; expected numbers: take Categorical",
    ),
    "labels beyond": (
        lambda: changed(
            lambda task: OrderedDict(train=task["train"], test=[(x, y + 1) for x, y in task["test"]])  # noqa: E501
        ),
        "labels from 1 to 5",
    ),
    "unequal shots": (
        lambda: changed(lambda task: OrderedDict(train=task["train"][1:], test=task["test"])),
        "examples of the classes; expected as many of each",
    ),
    "a failure": (
        lambda: changed(lambda task: task["nothing"]),
        "cannot be loaded: KeyError: 'nothing' (",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_other_loaders_are_refused_in_a_line(name):
    make, text = BAD[name]
    with pytest.raises(UsageError) as caught:
        LoaderEpisodes(make(), "--torchmeta a:b: train")
    message = str(caught.value)
    assert message.startswith("--torchmeta a:b: train: ") and text in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("task", "text"), [(("a", "b"), True), ((1, 2), False), (7, False), ("x", True)]
)
def test_tasks_that_hash_by_text_are_refused(task, text):
    if not text:
        return check_hash(task, None, "here")
    with pytest.raises(UsageError, match="text as its index"):
        check_hash(task, None, "here")


def test_a_failure_in_a_worker_is_a_line_too():
    episodes = LoaderEpisodes(torchmeta_like.loader(num_workers=1), "here")
    episodes.loader.dataset.means = None
    with pytest.raises(UsageError, match=r"here: task .* cannot be loaded: TypeError"):
        served(episodes, 0, 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", "expected module:function"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("tests.support.torchmeta_like:nothing", "has no attribute 'nothing'"),
        ("tests.support.torchmeta_like:no_test", "loaders by split: train; expected a dict with"),
        ("tests.support.torchmeta_like:fails", "ValueError: no such folder: /nowhere"),
        ("tests.support.torchmeta_like:loader", "loaders by split: none; expected a dict with"),
    ],
)
def test_other_functions_are_refused_in_a_line(name, text):
    with pytest.raises(UsageError) as caught:
        loaders_of_function(name)
    message = str(caught.value)
    assert message.startswith(f"--torchmeta {name}: ") and text in message and "\n" not in message

"""Our episodes in torchmeta's form: the same pixels and labels, served as its loaders serve."""

from collections import OrderedDict
from itertools import islice

import numpy as np
import pytest
import torch

import zoo
from tests.conftest import blobs
from zoo.datasets.episodes.torchmeta_batches import TorchmetaBatches
from zoo.errors import UsageError

SHAPE = {"way": 5, "shot": 2, "query": 3, "batch_size": 4}


def batches(split="train", **options) -> TorchmetaBatches:
    return TorchmetaBatches(blobs(10), split, **{"batches": 6, **SHAPE, **options})


def test_the_form():
    batch = next(iter(batches()))
    assert type(batch) is OrderedDict and [*batch] == ["train", "test"]
    for part, n in (("train", 10), ("test", 15)):
        inputs, targets = batch[part]
        assert type(batch[part]) is list
        assert inputs.shape == (4, n, 1, 28, 28) and inputs.dtype == torch.float32
        assert targets.shape == (4, n) and targets.dtype == torch.int64
        assert inputs.is_contiguous() and targets.is_contiguous()
        assert 0 <= inputs.min() and inputs.max() <= 1
        assert all(y.bincount().tolist() == [n // 5] * 5 for y in targets)


def test_images_are_those_of_the_store_with_their_labels():
    store = blobs(10)
    batch = next(iter(batches(as_bytes=True)))
    class_of = {
        image.numpy().tobytes(): c
        for c in range(10)
        for image in store.images[store.offsets[c] : store.offsets[c + 1]]
    }
    for task in range(4):
        classes = {}
        for inputs, targets in batch.values():
            for image, label in zip(inputs[task], targets[task].tolist(), strict=True):
                classes.setdefault(label, set()).add(class_of[image.numpy().tobytes()])
        assert sorted(map(len, classes.values())) == [1] * 5  # one class of ours a label
    floats = next(iter(batches()))["train"][0]
    assert torch.equal(floats, batch["train"][0].float() / 255)


def digest(served) -> list[bytes]:
    return [batch["test"][0].numpy().tobytes() for batch in served]


def test_training_goes_on_and_evaluation_begins_anew():
    training, test = batches(), batches("test")
    first, second = digest(training), digest(training)
    assert len(first) == len(second) == len(training) == 6
    assert len({*first, *second}) == 12
    assert digest(test) == digest(test) == digest(batches("test", seed=1))
    assert digest(batches(seed=1)) != first == digest(batches())


def test_it_resumes():
    whole = digest(islice(batches(), 5))
    begun = batches()
    assert digest(islice(begun, 2)) == whole[:2]
    state, other = begun.state_dict(), batches()
    other.load_state_dict(state)
    assert digest(islice(other, 3)) == whole[2:]


def test_of_a_benchmark_and_of_own_images():
    batch = next(iter(zoo.torchmeta_batches("glyphs", "val", shot=5, batch_size=2)))
    assert batch["train"][0].shape == (2, 25, 1, 28, 28)
    images = [(np.full((8, 8), 20 * c, np.uint8), c) for c in range(6) for _ in range(4)]
    own = {"train": images, "test": [(image + 1, label) for image, label in images]}
    batch = next(iter(zoo.torchmeta_batches(own, "test", way=3, query=2)))
    assert batch["test"][0].shape == (4, 6, 1, 8, 8)


@pytest.mark.parametrize(
    ("benchmark", "options", "text"),
    [
        ("sinusoid", {}, "sinusoid has no images in a store"),
        ("glyphs", {"split": "valid"}, "split 'valid': glyphs has train, val, test"),
        ("glyphs", {"way": 0}, "--way 0: expected"),
        ("glyphs", {"batches": 0.5}, "--batches 0.5: expected"),
        ("glyphs", {"query": 500}, "the smallest class has only"),
        ("nothing", {}, "no benchmark 'nothing'"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(benchmark, options, text):
    with pytest.raises(UsageError) as caught:
        zoo.torchmeta_batches(benchmark, **options)
    assert text in str(caught.value) and "\n" not in str(caught.value)

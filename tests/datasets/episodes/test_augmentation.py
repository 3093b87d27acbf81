"""Augmentation by hand, and the batches that it is made of."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.conftest import blobs
from zoo.datasets.episodes.augmentation import (
    augment,
    boxes,
    jitter,
    numbers_for,
    parse_augmentations,
    resized,
    shifted,
)
from zoo.datasets.episodes.hash_random import key_of
from zoo.datasets.episodes.image_batches import ImageBatches, ImageDataModule
from zoo.errors import UsageError
from zoo.runs.settings import Protocol


def images(n=6, channels=3, size=16):
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, size, size), generator=g).float()


def test_the_whole_image_is_itself():
    x = images()
    corner, extent = torch.zeros(6, 2), torch.ones(6, 2)
    torch.testing.assert_close(resized(x, corner, extent, (16, 16)), x, rtol=0, atol=1e-3)


def test_a_part_is_scaled_up_by_bilinear_interpolation():
    """Columns 4 to 12 and rows 8 to 16; at the edges ours sees the pixels beside the part."""
    x = images()
    corner, extent = torch.tensor([[0.25, 0.5]]).expand(6, 2), torch.full((6, 2), 0.5)
    expected = F.interpolate(x[:, :, 8:, 4:12], size=(16, 16), mode="bilinear")
    got = resized(x, corner, extent, (16, 16))
    torch.testing.assert_close(got[:, :, 1:, 1:-1], expected[:, :, 1:, 1:-1], rtol=0, atol=1e-3)


def test_crops_lie_in_the_image_and_have_the_areas_and_shapes():
    u = torch.rand(20000, 4, generator=torch.Generator().manual_seed(0))
    corner, extent = boxes(u, aspect=1.0)
    assert (corner >= 0).all() and (corner + extent <= 1 + 1e-6).all()
    area, ratio = extent.prod(1), extent[:, 0] / extent[:, 1]
    assert 0.08 <= area.min() < 0.09 and area.max() > 0.98
    inside = extent.max(1).values < 1
    assert 0.745 < ratio[inside].min() < 0.76 and 1.31 < ratio[inside].max() < 1.34
    assert area[inside].mean() == pytest.approx(0.5, abs=0.05)
    wide = boxes(u, aspect=2.0)[1]  # of an image twice as wide as high
    in_pixels = 2 * wide[:, 0] / wide[:, 1]
    assert 0.745 < in_pixels[wide.max(1).values < 1].min() < 0.77


def test_jitter_by_its_definition():
    x, u = images(), torch.rand(6, 3, generator=torch.Generator().manual_seed(1))
    got = jitter(x, u).numpy()
    for image, numbers, mine in zip(x.numpy(), u.numpy(), got, strict=True):
        b, c, s = 0.6 + 0.8 * numbers
        image = np.clip(image * b, 0, 255)
        light = np.tensordot([0.299, 0.587, 0.114], image, 1)
        image = np.clip(c * image + (1 - c) * light.mean(), 0, 255)
        light = np.tensordot([0.299, 0.587, 0.114], image, 1)
        image = np.clip(s * image + (1 - s) * light, 0, 255)
        assert np.allclose(mine, image, atol=1e-2)
    unchanged = jitter(x, torch.full((6, 3), 0.5))
    torch.testing.assert_close(unchanged, x, rtol=0, atol=1e-3)
    assert jitter(images(channels=1), u).shape == (6, 1, 16, 16)


def test_half_of_the_images_are_flipped():
    x = images(400)
    got = augment(x, ["flip"], numbers_for(key_of("a"), 400))
    flipped = torch.tensor([torch.equal(a, b.flip(-1)) for a, b in zip(got, x, strict=True)])
    same = torch.tensor([torch.equal(a, b) for a, b in zip(got, x, strict=True)])
    assert (flipped ^ same).all() and 150 < flipped.sum() < 250


@pytest.mark.parametrize(("size", "most"), [(16, 4), (84, 8), (3, 2)])
def test_a_shift_is_a_window_of_the_image_mirrored_at_its_edges(size, most):
    """All windows there are, each as often; a pixel of the edge itself is there once."""
    x = images(1, size=size).expand((2 * most + 1) ** 2, -1, -1, -1)
    steps = (torch.arange(2 * most + 1) + 0.5) / (2 * most + 1)
    got = shifted(x, torch.cartesian_prod(steps, steps))
    padded = np.pad(x[0].numpy(), ((0, 0), (most, most), (most, most)), "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    expected = windows.transpose(1, 2, 0, 3, 4).reshape(-1, 3, size, size)
    assert np.array_equal(got.numpy(), expected)
    assert torch.equal(shifted(x[:1], torch.ones(1, 2)), got[-1:])  # a number that rounds up to 1


def test_a_shift_keeps_bytes_and_moves_either_way():
    x = torch.zeros(500, 1, 32, 32, dtype=torch.uint8)
    x[:, :, 16, 16] = 255
    numbers = numbers_for(key_of("a"), 500)
    assert shifted(x, torch.from_numpy(numbers[:, 8:])).dtype == torch.uint8
    rows, columns = augment(x, ["shift"], numbers).nonzero()[:, 2:].T
    for places in (rows, columns):
        assert torch.equal(places.unique(), torch.arange(12, 21))
    assert (rows != columns).any()


def test_numbers_of_an_image_do_not_depend_on_the_others():
    keys = np.concatenate([key_of("a"), key_of("b")])
    both = numbers_for(keys, 5)
    assert both.shape == (10, 10) and len(np.unique(both)) == 100
    assert np.array_equal(both[5:], numbers_for(keys[1:], 5))
    assert np.array_equal(both[:3], numbers_for(keys[:1], 3))


def test_words_that_are_none():
    assert parse_augmentations("shift  flip", "augment") == ["shift", "flip"]
    assert parse_augmentations("", "augment") == []
    with pytest.raises(UsageError, match="--augment 'shift spin': 'spin' is no augmentation"):
        parse_augmentations("shift spin", "augment")


def test_it_follows_from_its_key_and_each_image_has_its_own():
    x = images(1).repeat(8, 1, 1, 1).to(torch.uint8)
    ways = ["crop", "shift", "jitter", "flip"]
    numbers = numbers_for(key_of("a", 0), 8)
    got = augment(x, ways, numbers)
    assert torch.equal(got, augment(x, ways, numbers))
    assert not torch.allclose(got, augment(x, ways, numbers_for(key_of("a", 1), 8)))
    assert len({tuple(image.flatten().tolist()) for image in got}) == 8
    assert got.min() >= 0 and got.max() <= 255
    assert torch.equal(augment(x, [], numbers), x.float())
    alone = augment(x[:3], ways, numbers_for(key_of("a", 0), 3))  # whatever else is in the batch
    torch.testing.assert_close(alone, got[:3])


def test_a_pass_has_every_image_once():
    store = blobs(6, 10)
    batches = list(ImageBatches(store, 15, 8, seed=0))
    assert [batch.number for batch in batches] == list(range(8))
    passes = [torch.cat([b.y for b in batches[at : at + 4]]) for at in (0, 4)]
    assert all(torch.equal(y.bincount(), torch.full((6,), 10)) for y in passes)
    assert not torch.equal(*passes)
    for batch in batches:
        for image, label in zip(batch.x, batch.y, strict=True):
            rows = slice(int(store.offsets[label]), int(store.offsets[label + 1]))
            assert (store.images[rows] == image).flatten(1).all(1).any()
    seen = torch.cat([b.x for b in batches[:4]]).flatten(1).unique(dim=0)
    assert len(seen) == len(store.images.flatten(1).unique(dim=0))


def test_batches_go_on_where_they_were():
    whole = list(ImageBatches(blobs(6, 10), 15, 8, seed=0))
    stopped = ImageBatches(blobs(6, 10), 15, 8, seed=0)
    iterator = iter(stopped)
    for _ in range(5):
        next(iterator)
    again = ImageBatches(blobs(6, 10), 15, 8, seed=0)
    again.load_state_dict(stopped.state_dict())
    rest = list(again)
    assert [b.number for b in rest] == [5, 6, 7]
    assert all(torch.equal(a.x, b.x) for a, b in zip(rest, whole[5:], strict=True))
    other = next(iter(ImageBatches(blobs(6, 10), 15, 8, seed=1)))
    assert not torch.equal(other.y, whole[0].y)


def test_a_batch_is_at_most_all_images():
    (batch,) = ImageBatches(blobs(2, 5), 64, 1, seed=0)
    assert len(batch.y) == 10


@pytest.mark.parametrize("augment", ["", "crop jitter flip", "shift flip"])
def test_images_of_a_pretraining_are_normalised_whether_augmented_or_not(augment):
    store = blobs(12, 20, (3, 28, 28), 0)
    protocol = {n: f.default for n, f in Protocol.__dataclass_fields__.items()}
    settings = {**protocol, "query": 2, "updates": 2, "batch": 16, "seed": 0, "augment": augment}
    data = ImageDataModule({"train": store, "val": store}, (0.5,) * 3, (0.25,) * 3, settings, 1)
    for batch in data.train_dataloader():
        x = data.on_after_batch_transfer(batch, 0).x
        assert x.min() >= -2 and x.max() <= 2 and x.std() > 0.5  # 0 and 255 become -2 and 2

"""The data module: what reaches a learner is what was drawn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.conftest import blobs, sampler
from zoo.datasets.episodes.data_module import EpisodicDataModule, MetaBatches, Share
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.runs.settings import Protocol

SETTINGS = {
    **{name: field.default for name, field in Protocol.__dataclass_fields__.items()},
    "query": 3, "train_way": 6, "train_shot": 2, "train_query": 4,
    "updates": 5, "meta_batch": 4, "val_episodes": 7, "test_episodes": 9,
}  # fmt: skip


def coded() -> Store:
    """Images whose first two pixels say their class and number."""
    images = np.zeros((12, 20, 1, 2, 2), np.uint8)
    images[:, :, 0, 0, 0] = np.arange(12)[:, None]
    images[:, :, 0, 0, 1] = np.arange(20)
    return Store.from_arrays([str(c) for c in range(12)], images)


def module(stores=None, settings=SETTINGS, **options) -> EpisodicDataModule:
    stores = stores or {split: coded() for split in ("train", "val", "test")}
    defaults = dict(way=5, shot=1, seed=0, eval_batch=3)
    return EpisodicDataModule(stores, (0.0,), (1.0,), settings, **{**defaults, **options})


def test_images_carry_their_labels():
    batches = MetaBatches(coded(), sampler([20] * 12, 5, 2, 3), stop=4, tasks=4)
    batch = next(iter(batches))
    assert batch.x.shape == (4, 10 + 15, 1, 2, 2) and batch.support == 10 and batch.way == 5
    drawn = sampler([20] * 12, 5, 2, 3).indices(0, 4)
    for t in range(4):
        for x, y in zip(batch.x[t], batch.y[t], strict=True):
            assert x[0, 0, 0] == drawn.classes[t, y]
        support, query = batch.x[t, :10, 0, 0], batch.x[t, 10:, 0, 0]
        pairs = {tuple(p.tolist()) for p in support} & {tuple(p.tolist()) for p in query}
        assert not pairs, "support and query share an image"
        order = support[:, 1].tolist()
        expected = drawn.images[t, :, 3:].ravel()[drawn.order[t]].tolist()
        assert order == expected


def test_loaders_start_anew_unless_resumed():
    """Lightning stops asking once it has the number it expects; the next pass starts at 0."""
    loader = module().val_dataloader()
    passes = []
    for _ in range(2):
        batches = iter(loader)
        passes.append(torch.cat([next(batches).x for _ in range(len(loader))]))
    assert len(passes[0]) == 7
    assert torch.equal(*passes)


def test_training_goes_on_where_it_was():
    loader = module().train_dataloader()
    whole = [batch.x for batch in loader]
    first, state = iter(module().train_dataloader()), None
    loader = module().train_dataloader()
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    state = loader.state_dict()
    again = module().train_dataloader()
    again.load_state_dict(state)
    rest = [batch.x for batch, _ in zip(again, range(3), strict=False)]
    assert len(whole) == 5 and next(first) is not None
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_two_epochs_have_different_episodes():
    """Those of a training twice as long, and a resumed one goes on in the middle of the second."""
    longer = [batch.x for batch in module(settings={**SETTINGS, "updates": 10}).train_dataloader()]
    loader = module().train_dataloader()
    epochs = [batch.x for _ in range(2) for batch in loader]
    assert len(epochs) == 10 and all(map(torch.equal, epochs, longer))
    again = module().train_dataloader()
    again.load_state_dict({"served": 7})
    rest = [batch.x for batch, _ in zip(again, range(3), strict=False)]
    assert all(map(torch.equal, rest, longer[7:]))


def test_a_new_loader_goes_on_and_so_does_a_new_module_with_its_state():
    """As Lightning asks for one in every epoch where it is told to reload, and in every fit."""
    longer = [batch.x for batch in module(settings={**SETTINGS, "updates": 15}).train_dataloader()]
    data = module()
    found = [batch.x for _ in range(2) for batch in data.train_dataloader()]
    again = module()
    again.load_state_dict(data.state_dict())
    found += [batch.x for batch in again.train_dataloader()]
    assert len(found) == 15 and all(map(torch.equal, found, longer))
    again.trainer = SimpleNamespace(global_rank=0, world_size=1, overfit_batches=2)
    loader = again.train_dataloader()
    first, second = ([batch.x for batch in loader] for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize(("loader", "episodes"), [("train", 20), ("val", 7), ("test", 9)])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_every_batch(loader, episodes, processes):
    """Together they have what one alone has, in its order; each has as many batches."""
    alone = torch.cat([batch.x for batch in getattr(module(), f"{loader}_dataloader")()])
    shares = []
    for rank in range(processes):
        data = module()
        data.trainer = SimpleNamespace(global_rank=rank, world_size=processes, overfit_batches=0)
        shares.append([batch.x for batch in getattr(data, f"{loader}_dataloader")()])
    assert len({len(share) for share in shares}) == 1
    assert all(len(x) for share in shares for x in share)
    together = torch.cat([x for batch in zip(*shares, strict=True) for x in batch])
    assert len(alone) == episodes and torch.equal(together, alone)


def test_what_processes_cannot_share():
    data = module()
    data.trainer = SimpleNamespace(global_rank=0, world_size=3, overfit_batches=0)
    with pytest.raises(UsageError, match="3 devices cannot share a meta-batch of 4 tasks"):
        data.train_dataloader()
    data.trainer = SimpleNamespace(global_rank=0, world_size=8, overfit_batches=0)
    with pytest.raises(UsageError, match="7 val episodes cannot be divided among 8 devices"):
        data.val_dataloader()


def test_evaluation_is_the_same_for_every_seed_and_training_is_not():
    a, b = module(seed=0), module(seed=1)
    assert a.test_fingerprint() == b.test_fingerprint()
    assert not torch.equal(next(iter(a.train_dataloader())).x, next(iter(b.train_dataloader())).x)
    assert torch.equal(next(iter(a.val_dataloader())).x, next(iter(b.val_dataloader())).x)


def test_the_fingerprint_tells_episodes_and_images_apart():
    stores = {split: blobs(12, seed=1) for split in ("train", "val", "test")}
    prints = {
        module().test_fingerprint(),
        module(shot=2).test_fingerprint(),
        module(way=4).test_fingerprint(),
        module(stores).test_fingerprint(),
    }
    assert len(prints) == 4


def test_training_has_its_own_shape():
    batch = next(iter(module().train_dataloader()))
    assert batch.y.shape == (4, 6 * 2 + 6 * 4) and batch.support == 12 and batch.way == 6


def test_pixels_are_normalised():
    data = EpisodicDataModule(
        {s: coded() for s in ("train", "val", "test")}, (0.5,), (0.25,), SETTINGS,
        way=5, shot=1, seed=0, eval_batch=3,
    )  # fmt: skip
    batch = next(iter(data.test_dataloader()))
    episode = data.on_after_batch_transfer(batch, 0)
    expected = (batch.x.float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(torch.cat([episode.support.x, episode.query.x], 1), expected)
    assert torch.equal(torch.cat([episode.support.y, episode.query.y], 1), batch.y)


def test_without_validation_classes_there_is_no_validation():
    assert module({"train": coded(), "test": coded()}).val_dataloader() == []


AUGMENTED = {**SETTINGS, "augment": "shift flip"}
SPLITS = ("train", "val", "test")


def pictures(settings=AUGMENTED, **options) -> EpisodicDataModule:
    """A module of images large enough to be moved, and in colour."""
    stores = {split: blobs(12, 20, (3, 28, 28), seed) for seed, split in enumerate(SPLITS)}
    module = EpisodicDataModule(
        stores, (0.5,) * 3, (0.25,) * 3, settings,
        **{**dict(way=5, shot=1, seed=0, eval_batch=3), **options},
    )  # fmt: skip
    return module


def served(data: EpisodicDataModule, loader: str = "train_dataloader") -> torch.Tensor:
    """All images of a split as a learner gets them: (T, n, C, H, W)."""
    episodes = [data.on_after_batch_transfer(batch, 0) for batch in getattr(data, loader)()]
    return torch.cat([torch.cat([e.support.x, e.query.x], 1) for e in episodes])


def test_training_images_are_augmented_each_by_itself():
    """Support and query; and normalised as they would have been."""
    plain = served(pictures(SETTINGS))
    x = served(pictures())
    assert x.shape == plain.shape == (20, 12 + 24, 3, 28, 28)
    changed = (x != plain).flatten(2).any(2)
    assert changed.float().mean() > 0.95  # one of 2 * 81 is left as it is
    assert x.min() >= plain.min() and x.max() <= plain.max()
    data = pictures()
    data.stores["train"].images[:] = data.stores["train"].images[:1].clone()
    assert len(served(data)[0].flatten(1).unique(dim=0)) > 25  # of one picture, 36 times


def test_nothing_but_training_is_augmented():
    for loader in ("val_dataloader", "test_dataloader"):
        assert torch.equal(served(pictures(), loader), served(pictures(SETTINGS), loader))


def test_augmentation_follows_from_the_seed_and_the_episode():
    """Not from how many are computed at once; a resumed loader goes on with the same."""
    whole = served(pictures())
    for meta_batch in (1, 2):
        settings = {**AUGMENTED, "meta_batch": meta_batch, "updates": 20 // meta_batch}
        assert torch.equal(served(pictures(settings)), whole)
    assert torch.equal(served(pictures()), whole)
    data = pictures()
    loader = data.train_dataloader()
    loader.load_state_dict({"served": 2})
    batches = [batch for batch, _ in zip(loader, range(3), strict=False)]
    rest = [data.on_after_batch_transfer(batch, 0).query.x for batch in batches]
    assert torch.equal(torch.cat(rest), whole[8:, 12:])
    one, two = ([b.keys for b in pictures(seed=s).train_dataloader()] for s in (0, 1))
    assert len({int(key) for keys in (*one, *two) for key in keys}) == 40


def test_there_is_no_such_augmentation():
    with pytest.raises(UsageError, match="--augment 'flip turn': 'turn' is no augmentation"):
        pictures({**SETTINGS, "augment": "flip turn"})


@pytest.mark.parametrize(
    ("episodes", "tasks", "processes", "sizes"),
    [
        (200, 128, 2, [100, 100]),  # and not 200 at once
        (9, 4, 2, [3, 3, 3]),
        (5, 4, 4, [5]),  # two batches would leave a process without an episode
        (3, 8, 2, [3]),
    ],
)
def test_processes_never_compute_many_more_tasks_at_once(episodes, tasks, processes, sizes):
    store, drawn = coded(), sampler([20] * 12, 5, 2, 3)
    whole = MetaBatches(store, drawn, episodes, tasks)
    shared = [
        MetaBatches(store, drawn, episodes, tasks, share=Share(rank, processes))
        for rank in range(processes)
    ]
    parts = list(zip(*shared, strict=True))
    assert [sum(len(part.y) for part in batch) for batch in parts] == sizes
    assert all(len(part.y) for batch in parts for part in batch)
    labels = torch.cat([part.y for batch in parts for part in batch])
    assert torch.equal(labels, torch.cat([batch.y for batch in whole]))

"""Batches of single images with the class of each, for what is trained before meta-training."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo import Episode, Examples
from zoo.datasets.episodes.augmentation import augment, numbers_for, parse_augmentations
from zoo.datasets.episodes.data_module import EpisodicDataModule, PixelBatch
from zoo.datasets.episodes.hash_random import Integers, derive, key_of
from zoo.datasets.episodes.image_store import Store

VALIDATED = (5, 5)  # ways and shots of the validation episodes, whatever the runs are tested on


class Labelled(NamedTuple):
    """A batch as it travels to the device: pixels still bytes."""

    x: Tensor  # (n, *image) uint8
    y: Tensor  # (n,) int64, the number of the class in its split
    number: int  # of the batch: its augmentation follows from it


class ImageBatches:
    """Iterates over a fixed number of batches, shuffled anew in each pass; resumable."""

    def __init__(self, store: Store, batch: int, count: int, seed: int) -> None:
        """`count` batches of `batch` images, or of all where there are fewer."""
        self.store, self.count, self.seed = store, count, seed
        self.start = self.served = 0
        self.batch = min(batch, len(store.images))
        self.labels = np.repeat(np.arange(len(store.names)), np.diff(store.offsets))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Labelled]:
        a_pass = len(self.labels) // self.batch  # what is left over waits for another pass
        for number in range(self.start, self.count):
            at, rest = divmod(number, a_pass)
            if number == self.start or not rest:
                order = self.order(at)
            rows = order[rest * self.batch : (rest + 1) * self.batch]
            self.served = number + 1  # before the yield: the batch in hand counts
            x = self.store.gather(torch.from_numpy(rows))
            yield Labelled(x, torch.from_numpy(self.labels[rows]), number)

    def order(self, number: int) -> Integers:
        """The rows of the store as a pass has them."""
        key = key_of("images", self.seed, number)
        return derive(key, np.arange(len(self.labels), dtype=np.uint64)).argsort(kind="stable")

    def state_dict(self) -> dict[str, Any]:
        """How many batches were served."""
        return {"served": self.served}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the batches that were served."""
        self.start = state["served"]


class ImageDataModule(EpisodicDataModule):
    """Training images with their classes, and the validation episodes of every stage."""

    def __init__(
        self,
        stores: Mapping[str, Store],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        settings: Mapping[str, Any],
        eval_batch: int,
        size: Sequence[int] = (),
    ) -> None:
        """Take what a stage's settings say (see `zoo.stage.Stage`).

        Raises:
            UsageError: validation has too few classes or images, or an unknown augmentation.
        """
        fewest = min(int(np.diff(store.offsets).min()) for store in stores.values())
        way = min(VALIDATED[0], *(len(store.names) for store in stores.values()))
        shot = max(1, min(VALIDATED[1], fewest - 1))  # all of them but in small sets of own images
        shape = {"train_way": way, "train_shot": shot, "train_query": settings["query"]}
        episodes = {"meta_batch": 1, "test_episodes": 0}
        super().__init__(
            stores, mean, std, {**settings, **shape, **episodes, "augment": ""},
            way=way, shot=shot, seed=settings["seed"], eval_batch=eval_batch,
            size=size,
        )  # fmt: skip
        self.count, self.batch, self.seed = (settings[n] for n in ("updates", "batch", "seed"))
        self.augmentations = parse_augmentations(settings["augment"], "pretrain_augment")

    def train_dataloader(self) -> ImageBatches:  # type: ignore[override]
        """Batches 0, 1, ... of the seed."""
        return ImageBatches(self.stores["train"], self.batch, self.count, self.seed)

    def on_after_batch_transfer(  # type: ignore[override]
        self, batch: Labelled | PixelBatch | Episode, dataloader_idx: int
    ) -> Examples | Episode:
        """Augment and normalise images on the device."""
        if not isinstance(batch, Labelled):
            return super().on_after_batch_transfer(batch, dataloader_idx)
        x = batch.x
        if self.augmentations:
            numbers = numbers_for(key_of("augment", self.seed, batch.number), len(x))
            x = augment(x, self.augmentations, numbers, self.size)
        return Examples(self.normalise(x), batch.y)

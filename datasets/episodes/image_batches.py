"""Batches of single images with their classes, for the stages that train before meta-training."""

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

# Way and shot of validation episodes, which do not depend on the way and shot of the runs.
VALIDATED = (5, 5)


class LabelledBatch(NamedTuple):
    """A batch on its way to the device: pixels still bytes."""

    x: Tensor  # (n, *image) uint8
    y: Tensor  # (n,) int64, the number of the class in its split
    number: int  # of the batch; the key of its augmentation


class ImageBatches:
    """A fixed number of batches of images, which each pass takes in another order; resumable."""

    def __init__(self, store: Store, batch: int, count: int, seed: int) -> None:
        """Serve `count` batches of `batch` images, or of all images where there are fewer."""
        self.store, self.count, self.seed = store, count, seed
        self.start = 0
        self.served = 0
        self.batch = min(batch, len(store.images))
        self.labels = np.repeat(np.arange(len(store.names)), np.diff(store.offsets))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[LabelledBatch]:
        batches_of_pass = len(self.labels) // self.batch  # a pass leaves out the remaining images
        for number in range(self.start, self.count):
            pass_number, place = divmod(number, batches_of_pass)
            if number == self.start or place == 0:
                order = self.order(pass_number)
            rows = order[place * self.batch : (place + 1) * self.batch]
            self.served = number + 1  # before the yield: the batch handed out counts
            x = self.store.gather(torch.from_numpy(rows))
            yield LabelledBatch(x, torch.from_numpy(self.labels[rows]), number)

    def order(self, pass_number: int) -> Integers:
        """All rows of the store in the order of a pass."""
        key = key_of("images", self.seed, pass_number)
        return derive(key, np.arange(len(self.labels), dtype=np.uint64)).argsort(kind="stable")

    def state_dict(self) -> dict[str, Any]:
        """How many batches were served."""
        return {"served": self.served}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batches that were served."""
        self.start = state["served"]


class ImageDataModule(EpisodicDataModule):
    """Training images with their classes, and validation episodes, for a stage."""

    def __init__(
        self,
        stores: Mapping[str, Store],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        settings: Mapping[str, Any],
        eval_batch: int,
        size: Sequence[int] = (),
    ) -> None:
        """Take the data settings from those of a stage (see `zoo.stage.Stage`).

        Args:
            stores: by split.
            mean: of each channel, in [0, 1].
            std: of each channel.
            settings: of the stage.
            eval_batch: validation tasks computed at once.
            size: (H, W) of the images that the stage is given; empty: as they are stored.

        Raises:
            UsageError: validation has too few classes or images, or an unknown augmentation.
        """
        fewest = min(int(np.diff(store.offsets).min()) for store in stores.values())
        # Only small sets of own images have too few for `VALIDATED`.
        way = min(VALIDATED[0], *(len(store.names) for store in stores.values()))
        shot = max(1, min(VALIDATED[1], fewest - 1))
        episodes = {
            "train_way": way,
            "train_shot": shot,
            "train_query": settings["query"],
            "meta_batch": 1,
            "test_episodes": 0,
            "augment": "",
        }
        super().__init__(
            stores,
            mean,
            std,
            {**settings, **episodes},
            way=way,
            shot=shot,
            seed=settings["seed"],
            eval_batch=eval_batch,
            size=size,
        )
        self.count = settings["updates"]
        self.batch = settings["batch"]
        self.seed = settings["seed"]
        self.augmentations = parse_augmentations(settings["augment"], "pretrain_augment")

    def train_dataloader(self) -> ImageBatches:  # type: ignore[override]
        """Batches 0, 1, ... of the seed."""
        return ImageBatches(self.stores["train"], self.batch, self.count, self.seed)

    def on_after_batch_transfer(  # type: ignore[override]
        self, batch: LabelledBatch | PixelBatch | Episode, dataloader_idx: int
    ) -> Examples | Episode:
        """Augment and normalise images on the device."""
        if not isinstance(batch, LabelledBatch):
            return super().on_after_batch_transfer(batch, dataloader_idx)
        x = batch.x
        if self.augmentations:
            numbers = numbers_for(key_of("augment", self.seed, batch.number), len(x))
            x = augment(x, self.augmentations, numbers, self.size)
            return Examples(self.normalise_pixels(x), batch.y)
        return Examples(self.normalise(x), batch.y)

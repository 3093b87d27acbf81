"""The episodic data module: meta-batches of episodes for every learner, the same test for all."""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo import Episode, Examples
from zoo.datasets.episodes import embedded_images
from zoo.datasets.episodes.augmentation import augment, numbers_for, parse_augmentations
from zoo.datasets.episodes.hash_random import Integers, key_of
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.episodes.resize import at_size
from zoo.datasets.episodes.sampler import EVALUATION_SEED, Indices, fingerprint
from zoo.errors import UsageError
from zoo.memory import check_memory, memory_bytes
from zoo.pixels import normalised_pixels
from zoo.processes import together

FEATURE_TASKS = 32  # episodes of features served at once
AHEAD = 256  # episodes drawn at once: a draw of few takes as long as one of many


def content_hash(*fingerprints: str) -> str:
    """One short hash of several."""
    return hashlib.blake2b("\n".join(fingerprints).encode(), digest_size=8).hexdigest()


class Gathered(NamedTuple):
    """A meta-batch as it travels to the device: pixels still bytes, support before query."""

    x: Tensor  # (T, N*K + N*Q, *image) uint8, or features (T, N*K + N*Q, D)
    y: Tensor  # (T, N*K + N*Q) int64
    support: int  # N*K
    way: int
    keys: NDArray[np.uint64] | None = None  # (T,), of the augmentation of each episode; None: none


class Share(NamedTuple):
    """Which of the processes that train together this is: it takes its part of every batch."""

    rank: int = 0
    of: int = 1

    def part(self, begin: int, end: int) -> tuple[int, int]:
        """The part of this process of episodes `begin` to `end`; parts differ by one at most."""
        count = end - begin
        return begin + count * self.rank // self.of, begin + count * (self.rank + 1) // self.of


class Served:
    """How many training batches were served, of all passes: where training goes on."""

    def __init__(self) -> None:
        self.batches = 0


class MetaBatches:
    """Iterates over the batches of a split, `tasks` episodes each.

    In evaluation every pass has the same episodes. In training a pass goes on where the last one
    ended, so two epochs differ; what was served is in every checkpoint, as the data module's state
    and as that of this loader (a stateful one of Lightning's), for who trains without the module.
    """

    def __init__(
        self,
        store: Any,
        sampler: Any,
        episodes: int,
        tasks: int,
        first: int = 0,
        *,
        training: bool = False,
        augmented: bool = False,
        share: Share | None = None,
        served: Served | None = None,
        repeats: bool = False,
    ) -> None:
        """Serve the episodes `first` to `episodes` of a sampler.

        Args:
            store: of images or of functions.
            sampler: draws episodes by their numbers.
            episodes: up to this number; in training those of one pass.
            tasks: episodes of a batch, of all processes together.
            first: number of the first episode.
            training: whether a pass goes on where the last one ended.
            augmented: whether images are augmented.
            share: of this process; None where it is the only one.
            served: the training batches so far; None to begin.
            repeats: whether every pass of a training has the same episodes.
        """
        # Not named `sampler`: Lightning takes that for a torch DataLoader's.
        self.store, self.drawn = store, sampler
        self.episodes, self.tasks, self.first = episodes, tasks, first
        self.training, self.augmented = training, augmented
        self.share = share or Share()
        self.served = served or Served()
        self.repeats = repeats or not training

    def __len__(self) -> int:
        """Batches of a pass."""
        count = self.episodes - self.first
        if self.share.of > 1 and not self.training:  # each process has an episode of every batch
            return max(1, count // self.tasks)
        return -(-count // self.tasks)

    def __iter__(self) -> Iterator[Gathered | Episode]:
        ahead = max(1, AHEAD // self.tasks) * self.tasks
        drawn_from = drawn_to = 0
        for number, last in self.numbers():
            start, end = self.bounds(number)
            if end > drawn_to:
                drawn_from, drawn_to = start, min(self.bounds(last)[1], max(end, start + ahead))
                drawn = self.drawn.indices(start, drawn_to - start)
            mine = self.share.part(start, end)
            part = slice(mine[0] - drawn_from, mine[1] - drawn_from)
            yield self.gather(np.arange(*mine), type(drawn)(*(each[part] for each in drawn)))

    def numbers(self) -> Iterator[tuple[int, int]]:
        """The numbers of the batches of a pass, each with the last one's; counts them as served.

        Raises:
            UsageError: several processes would be given the same batches.
        """
        if self.training and together() > self.share.of:
            raise UsageError(
                "several processes would train on the same episodes: give the Trainer the data "
                "module itself, trainer.fit(learner, data)"
            )
        begin = 0 if self.repeats else self.served.batches
        end = begin + len(self)
        for number in range(begin, end):
            if self.training:
                self.served.batches = number + 1  # the batch that is handed out now counts
            yield number, end - 1

    def bounds(self, number: int) -> tuple[int, int]:
        """The first episode of a batch, and the one behind its last."""
        if self.share.of > 1 and not self.training:
            count, batches = self.episodes - self.first, len(self)
            start, end = count * number // batches, count * (number + 1) // batches
            return self.first + start, self.first + end
        start = self.first + number * self.tasks
        end = start + self.tasks
        return start, end if self.training else min(end, self.episodes)

    def gather(self, numbers: Integers, indices: Any) -> Gathered | Episode:
        """One gather from the store for the whole meta-batch; functions need none.

        Args:
            numbers: of the episodes, (T,).
            indices: of their images, or what functions follow from.
        """
        if not isinstance(self.store, Store):
            return self.store.meta_batch(self.drawn, indices)
        tasks, way = indices.classes.shape
        query = self.drawn.query
        rows = rows_of(self.store, indices)
        support, of_support = self.support(rows, indices)
        of_query = np.repeat(np.arange(way), query)[None].repeat(tasks, 0)
        y = torch.from_numpy(np.concatenate([of_support, of_query], 1))
        flat = np.concatenate([support, rows[..., :query].reshape(tasks, -1)], 1)
        x = self.store.gather(torch.from_numpy(flat.ravel()))
        keys = self.drawn.augmentation_keys(numbers) if self.augmented else None
        return Gathered(x.unflatten(0, flat.shape), y, support.shape[1], way, keys)

    def support(self, rows: Integers, indices: Indices) -> tuple[Integers, Integers]:
        """The rows of the support in the store, as it is presented, and labels: (T, N*K) each."""
        flat = rows[..., self.drawn.query :].reshape(len(rows), -1)
        return np.take_along_axis(flat, indices.order, 1), indices.order // self.drawn.shot

    def state_dict(self) -> dict[str, Any]:
        """How many batches were served."""
        return {"served": self.served.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the batches that were served."""
        self.served.batches = state["served"]


def rows_of(store: Store, indices: Indices) -> Integers:
    """Which rows of the store the images of the episodes are: (T, N, Q+K)."""
    return store.offsets[indices.classes][..., None] + indices.images


class EpisodicDataModule(pl.LightningDataModule):
    """Training, validation and test episodes of one benchmark, way and shot.

    Validation and test episodes depend on nothing but the benchmark and their shape; training
    episodes on the seed too.
    """

    def __init__(
        self,
        stores: Mapping[str, Store | Any],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        settings: Mapping[str, Any],
        *,
        way: int,
        shot: int,
        seed: int,
        eval_batch: int,
        size: Sequence[int] = (),
    ) -> None:
        """Check that the episodes exist.

        Args:
            stores: by split, of images or of functions; no ``val`` where the benchmark has no
                validation classes.
            mean: of each channel, in [0, 1].
            std: of each channel.
            settings: values of `zoo.runs.settings.Protocol`, resolved.
            way: N of validation and test.
            shot: K of validation and test.
            seed: of the training episodes.
            eval_batch: tasks computed at once in validation and test.
            size: (H, W) of the images that a learner gets; empty: as they are stored.

        Raises:
            UsageError: a split has too few classes, or a class too few images; or there is no
                such augmentation.
        """
        super().__init__()
        self.ways = parse_augmentations(settings.get("augment", ""), "augment")
        self.stores = dict(stores)
        self.mean, self.std = mean, std
        self.meta_batch, self.eval_batch, self.size = settings["meta_batch"], eval_batch, size
        self.train_episodes = settings["updates"] * settings["meta_batch"]
        self.evaluation = {"val": settings["val_episodes"], "test": settings["test_episodes"]}
        self.samplers = {}
        # The test's way first: where training has no other, that is what was asked for.
        for split, store in sorted(self.stores.items(), key=lambda item: item[0] == "train"):
            shape, run = (way, shot, settings["query"]), EVALUATION_SEED
            if split == "train":
                shape = tuple(settings[f"train_{part}"] for part in ("way", "shot", "query"))
                run = seed
            self.samplers[split] = store.sampler(*shape, key_of(split, run), split)
        self._check_memory()
        self.served = Served()
        self.tested = 0  # test episodes already recorded by an earlier process
        self.chosen_from: Callable[[MetaBatches], MetaBatches] | None = None  # of training alone

    def _check_memory(self) -> None:
        """Refuse a meta-batch or a test that this machine cannot hold.

        Of a test the episodes are drawn and the predictions kept all together, at 8 bytes a number;
        of a meta-batch there are the pixels, or 8 bytes a number of a function.

        Raises:
            UsageError: says what is needed.
        """
        for split, flag, tasks in (
            ("train", "--meta_batch", self.meta_batch),
            ("test", "--test_episodes", self.evaluation["test"]),
        ):
            if split not in self.samplers:
                continue
            drawn = self.samplers[split]
            examples = drawn.way * (drawn.shot + drawn.query)
            store = self.stores[split]
            pixels = store.images[0].nbytes if isinstance(store, Store) else 8
            size = examples * (pixels if split == "train" else 8 * 2)
            most = memory_bytes() // size
            advice = f"take {flag} {most} at most" if most else "take a smaller --shot and --query"
            check_memory(tasks * size, f"{flag} {tasks}", advice)

    def state_dict(self) -> dict[str, Any]:
        """How many training batches were served; Lightning puts it into every checkpoint."""
        return {"served": self.served.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the training batches that were served."""
        self.served.batches = state_dict["served"]

    def setup(self, stage: str) -> None:
        """Move the images to the GPU where there is one and they fit into half of what is free."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type == "cuda":
            for split, store in self.stores.items():
                free = torch.cuda.mem_get_info(device)[0]
                if isinstance(store, Store) and store.images.nbytes < free / 2:
                    self.stores[split] = store.to(device)

    def train_dataloader(self) -> MetaBatches:
        """Meta-batches of training episodes 0, 1, ... of the seed, or of those chosen instead."""
        plain = self._batches("train", self.train_episodes)
        return self.chosen_from(plain) if self.chosen_from else plain

    def val_dataloader(self) -> MetaBatches | list[MetaBatches]:
        """The fixed validation episodes; none where there are no validation classes."""
        return self._batches("val", self.evaluation["val"]) if "val" in self.stores else []

    def test_dataloader(self) -> MetaBatches:
        """The fixed test episodes that are not recorded yet."""
        return self._batches("test", self.evaluation["test"], self.tested)

    def predict_dataloader(self) -> MetaBatches:
        """The test episodes."""
        return self.test_dataloader()

    def embedded(
        self,
        network: Callable[[Tensor], Tensor],
        device: torch.device | str = "cpu",
        progress: bool = False,
    ) -> "EpisodicDataModule":
        """The same test with features for images; each image that it uses is embedded once.

        Args:
            network: normalised (n, *image) -> (n, D), each image by itself.
            device: where `network` computes and the features stay.
            progress: whether to show a bar.

        Returns:
            A data module that has a test only, whose episodes' x is (T, n, D).
        """
        store = self.stores["test"]
        data = copy.copy(self)  # its samplers and episodes stay
        used = rows_of(store, self.test_indices())
        data.stores = {
            "test": embedded_images.embed(
                store, used, lambda x: network(self.normalise(x.to(device))), progress
            )
        }
        data.eval_batch = FEATURE_TASKS
        return data

    def of_shape(self, way: int, shot: int) -> "EpisodicDataModule":
        """The same data with test episodes of another way and shot.

        Raises:
            UsageError: the test has too few classes, or a class too few images.
        """
        data, query = copy.copy(self), self.samplers["test"].query
        key = key_of("test", EVALUATION_SEED)
        data.samplers = {"test": self.stores["test"].sampler(way, shot, query, key, "test")}
        data._check_memory()
        return data

    def test_indices(self) -> Any:
        """Classes and images of all test episodes, or the numbers that functions follow from."""
        return self.samplers["test"].indices(0, self.evaluation["test"])

    def test_fingerprint(self) -> str:
        """A hash of the test episodes and of the images they are drawn from."""
        return content_hash(fingerprint(self.test_indices()), self.stores["test"].fingerprint)

    def fingerprint(self) -> str:
        """A hash of the images of all splits."""
        return content_hash(*(self.stores[split].fingerprint for split in sorted(self.stores)))

    def _batches(self, split: str, episodes: int, first: int = 0) -> MetaBatches:
        """Batches of a split; in training each is a meta-batch, one update's tasks.

        Raises:
            UsageError: there are fewer tasks than processes, or they cannot share a meta-batch.
        """
        share, training = self.share, split == "train"
        if training and self.meta_batch % share.of:
            raise UsageError(
                f"{share.of} devices cannot share a meta-batch of {self.meta_batch} tasks: take a "
                f"--meta_batch that {share.of} divides"
            )
        if share.of > 1 and episodes - first < share.of:
            raise UsageError(
                f"{episodes - first} {split} episodes cannot be divided among {share.of} devices: "
                "take fewer devices"
            )
        tasks = self.meta_batch if training else self.eval_batch * share.of
        return MetaBatches(
            self.stores[split],
            self.samplers[split],
            episodes,
            tasks,
            first,
            training=training,
            augmented=training and bool(self.ways),
            share=share,
            served=self.served,
            repeats=bool(getattr(self.trainer, "overfit_batches", 0)),
        )

    @property
    def share(self) -> Share:
        """What the trainer has this process do of every batch."""
        trainer = self.trainer
        return Share(trainer.global_rank, trainer.world_size) if trainer else Share()

    def on_after_batch_transfer(self, batch: Gathered | Episode, dataloader_idx: int) -> Episode:
        """Augment and normalise images on the device; features and functions stay as they are."""
        if isinstance(batch, Episode):
            return batch
        x, n = batch.x, batch.support
        if batch.keys is not None:
            numbers = numbers_for(batch.keys, x.shape[1])
            pixels = augment(x.flatten(0, 1), self.ways, numbers, self.size)
            x = self.normalise(pixels).unflatten(0, x.shape[:2])
        elif not x.is_floating_point():
            x = self.normalise(x)
        return Episode(
            Examples(x[:, :n], batch.y[:, :n]), Examples(x[:, n:], batch.y[:, n:]), batch.way
        )

    def normalise(self, x: Tensor) -> Tensor:
        """Pixels (..., C, h, w) as stored to what a network sees, float (..., C, H, W)."""
        return normalised_pixels(self.sized(x), self.mean, self.std)

    def sized(self, x: Tensor) -> Tensor:
        """Pixels (..., C, h, w) as stored, in the size that a learner gets."""
        return at_size(x, self.size) if self.size else x

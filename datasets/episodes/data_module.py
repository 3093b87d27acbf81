"""The episodic data module: meta-batches for every learner, and the same test episodes for all."""

import copy
import hashlib
import math
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
from zoo.processes import process_count

FEATURE_TASKS = 32  # episodes in a batch of features
AHEAD = 256  # episodes drawn at once: drawing few takes as long as drawing many


def content_hash(*fingerprints: str) -> str:
    """One short hash of several fingerprints."""
    return hashlib.blake2b("\n".join(fingerprints).encode(), digest_size=8).hexdigest()


class PixelBatch(NamedTuple):
    """A meta-batch on its way to the device: pixels still bytes, support before query."""

    x: Tensor  # (T, N*K + N*Q, *image) uint8, or features (T, N*K + N*Q, D)
    y: Tensor  # (T, N*K + N*Q) int64
    support: int  # N*K
    way: int
    keys: NDArray[np.uint64] | None = None  # (T,), to augment each episode; None: no augmentation


class Share(NamedTuple):
    """Rank and number of the processes among which every batch is divided."""

    rank: int = 0
    processes: int = 1

    def part(self, begin: int, end: int) -> tuple[int, int]:
        """Where this process's part of the episodes from `begin` to before `end` begins and ends.

        The lengths of the parts differ by 1 at most.
        """
        count = end - begin
        first = begin + count * self.rank // self.processes
        last = begin + count * (self.rank + 1) // self.processes
        return first, last


class Served:
    """A counter of training batches handed out in all epochs, for the data module and its loaders.

    Training goes on with the next batch.
    """

    def __init__(self) -> None:
        self.batches = 0


class MetaBatches:
    """Iterates over the batches of a split: `tasks` episodes each in training.

    In evaluation on one process only the last batch may have fewer. On several processes the sizes
    of the batches differ by 1 at most, because every process needs an episode of each batch. A
    batch is larger than `tasks` only where smaller ones would leave a process without an episode.

    In evaluation every pass has the same episodes. In training a pass goes on where the last one
    ended, so epochs differ. A checkpoint holds the number of batches served in two places: in the
    state of the data module, and in that of this loader (Lightning saves the state of loaders that
    have one), for training with the loader alone.
    """

    def __init__(
        self,
        store: Any,
        sampler: Any,
        stop: int,
        tasks: int,
        first: int = 0,
        *,
        training: bool = False,
        augmented: bool = False,
        share: Share | None = None,
        served: Served | None = None,
        repeats: bool = False,
    ) -> None:
        """Serve the episodes from `first` to before `stop` of a sampler.

        Args:
            store: of images or of functions.
            sampler: draws episodes by their numbers.
            stop: one past the last episode's number. In training `first` is 0, so that it is the
                number of episodes in an epoch.
            tasks: episodes in a batch, summed over the processes.
            first: number of the first episode.
            training: whether a pass goes on where the last one ended.
            augmented: whether images are augmented.
            share: of this process; None where it is the only one.
            served: the training batches so far; None for none.
            repeats: whether each training epoch starts again with batch 0, as Lightning's
                `overfit_batches` needs.
        """
        self.store = store
        self.episode_sampler = sampler  # Lightning takes an attribute `sampler` for a DataLoader's
        self.stop, self.tasks, self.first = stop, tasks, first
        self.training, self.augmented = training, augmented
        self.share = share or Share()
        self.served = served or Served()
        self.repeats = repeats or not training

    def __len__(self) -> int:
        """The number of batches in a pass."""
        count = self.stop - self.first
        batches = math.ceil(count / self.tasks)
        if self.share.processes > 1 and not self.training:
            # Fewer if a batch would have fewer episodes than there are processes.
            return min(batches, max(1, count // self.share.processes))
        return batches

    def __iter__(self) -> Iterator[PixelBatch | Episode]:
        # Episodes of several batches are drawn at once: those from drawn_from to before drawn_to.
        ahead = max(1, AHEAD // self.tasks) * self.tasks
        drawn_from = drawn_to = 0
        for number, last in self.batch_numbers():
            start, end = self.bounds(number)
            if end > drawn_to:
                drawn_from = start
                drawn_to = min(self.bounds(last)[1], max(end, start + ahead))
                drawn = self.episode_sampler.indices(drawn_from, drawn_to - drawn_from)
            begin, stop = self.share.part(start, end)
            part = slice(begin - drawn_from, stop - drawn_from)
            indices = type(drawn)(*(field[part] for field in drawn))
            yield self.batch_of(np.arange(begin, stop), indices)

    def batch_numbers(self) -> Iterator[tuple[int, int]]:
        """Pairs of a batch's number and the number of the pass's last batch.

        In training each batch is counted as served when it is handed out.

        Raises:
            UsageError: several processes would be given the same batches.
        """
        if self.training and process_count() > self.share.processes:
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
        """The first episode of a batch, and the one after its last."""
        if self.share.processes > 1 and not self.training:
            count, batches = self.stop - self.first, len(self)
            start, end = count * number // batches, count * (number + 1) // batches
            return self.first + start, self.first + end
        start = self.first + number * self.tasks
        end = start + self.tasks
        if not self.training:  # the last batch of a test may be smaller
            end = min(end, self.stop)
        return start, end

    def batch_of(self, numbers: Integers, indices: Any) -> PixelBatch | Episode:
        """The meta-batch of these episodes; all their images are read from the store at once.

        Args:
            numbers: of the episodes, (T,).
            indices: of their images, or the numbers that define functions.
        """
        if not isinstance(self.store, Store):
            return self.store.meta_batch(self.episode_sampler, indices)
        tasks, way = indices.classes.shape
        query = self.episode_sampler.query
        rows = rows_of(self.store, indices)
        support, support_labels = self.support(rows, indices)
        query_labels = np.repeat(np.arange(way), query)[None].repeat(tasks, 0)
        y = torch.from_numpy(np.concatenate([support_labels, query_labels], 1))
        x_rows = np.concatenate([support, rows[..., :query].reshape(tasks, -1)], 1)
        x = self.store.gather(torch.from_numpy(x_rows.ravel()))
        keys = self.episode_sampler.augmentation_keys(numbers) if self.augmented else None
        return PixelBatch(x.unflatten(0, x_rows.shape), y, support.shape[1], way, keys)

    def support(self, rows: Integers, indices: Indices) -> tuple[Integers, Integers]:
        """Store rows and labels of the support, in the order of presentation: (T, N*K) each."""
        flat = rows[..., self.episode_sampler.query :].reshape(len(rows), -1)
        labels = indices.order // self.episode_sampler.shot
        return np.take_along_axis(flat, indices.order, 1), labels

    def state_dict(self) -> dict[str, Any]:
        """How many batches were served."""
        return {"served": self.served.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batches that were served."""
        self.served.batches = state["served"]


def rows_of(store: Store, indices: Indices) -> Integers:
    """The store rows of the episodes' images: (T, N, Q+K)."""
    return store.offsets[indices.classes][..., None] + indices.images


class EpisodicDataModule(pl.LightningDataModule):
    """Training, validation and test episodes of one benchmark, way and shot.

    Validation and test episodes depend on the benchmark and their shape only, training episodes
    also on the seed.
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
        """Check that such episodes can be drawn.

        Args:
            stores: by split, of images or of functions; without ``val`` where the benchmark has no
                validation classes.
            mean: of each channel, in [0, 1].
            std: of each channel.
            settings: values of `zoo.runs.settings.Protocol`, resolved.
            way: N of validation and test.
            shot: K of validation and test.
            seed: of the training episodes.
            eval_batch: tasks computed at once in validation and test.
            size: (H, W) of the images that a learner is given; empty: as they are stored.

        Raises:
            UsageError: a split has too few classes, a class too few images, or an augmentation is
                unknown.
        """
        super().__init__()
        self.augmentations = parse_augmentations(settings.get("augment", ""), "augment")
        self.stores = dict(stores)
        self.mean, self.std = mean, std
        self.meta_batch, self.eval_batch, self.size = settings["meta_batch"], eval_batch, size
        self.train_episodes = settings["updates"] * settings["meta_batch"]
        self.evaluation = {"val": settings["val_episodes"], "test": settings["test_episodes"]}
        self.samplers = {}
        # Training comes last: if both ways are too large, the error should name --way, which was
        # asked for, and not --train_way, which by default follows it.
        for split, store in sorted(self.stores.items(), key=lambda item: item[0] == "train"):
            if split == "train":
                shape = (settings["train_way"], settings["train_shot"], settings["train_query"])
                key = key_of(split, seed)
            else:
                shape = (way, shot, settings["query"])
                key = key_of(split, EVALUATION_SEED)
            self.samplers[split] = store.sampler(*shape, key, split)
        self._check_memory()
        self.served = Served()
        self.tested = 0  # test episodes already recorded by an earlier process
        # If it is set, it returns the training batches to use instead of the plain ones.
        self.choose_batches: Callable[[MetaBatches], MetaBatches] | None = None

    def _check_memory(self) -> None:
        """Refuse a meta-batch or a test that this machine cannot hold.

        Training needs the images of a meta-batch, or 8 bytes for each point of a function. A test
        needs 16 bytes for each example: 8 for its index and 8 for its prediction.

        Raises:
            UsageError: the memory does not suffice; says how much is needed.
        """
        for split, flag, tasks in (
            ("train", "--meta_batch", self.meta_batch),
            ("test", "--test_episodes", self.evaluation["test"]),
        ):
            if split not in self.samplers:
                continue
            sampler = self.samplers[split]
            examples = sampler.way * (sampler.shot + sampler.query)
            store = self.stores[split]
            bytes_per_example = 16
            if split == "train":
                bytes_per_example = store.images[0].nbytes if isinstance(store, Store) else 8
            bytes_per_task = examples * bytes_per_example
            most = memory_bytes() // bytes_per_task
            advice = f"take {flag} {most} at most" if most else "take a smaller --shot and --query"
            check_memory(tasks * bytes_per_task, f"{flag} {tasks}", advice)

    def state_dict(self) -> dict[str, Any]:
        """How many training batches were served; Lightning saves it in every checkpoint."""
        return {"served": self.served.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the training batches that were served."""
        self.served.batches = state_dict["served"]

    def setup(self, stage: str) -> None:
        """Move the images to the GPU if they fit into half of its free memory."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type == "cuda":
            for split, store in self.stores.items():
                free = torch.cuda.mem_get_info(device)[0]
                if isinstance(store, Store) and store.images.nbytes < free / 2:
                    self.stores[split] = store.to(device)

    def train_dataloader(self) -> MetaBatches:
        """Meta-batches of the seed's training episodes 0, 1, ..., or those of `choose_batches`."""
        plain = self._batches("train", self.train_episodes)
        return self.choose_batches(plain) if self.choose_batches else plain

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
        split: str = "test",
        episodes: int | None = None,
    ) -> "EpisodicDataModule":
        """The episodes of a split with features in place of images; each image is embedded once.

        Args:
            network: normalised (n, *image) -> (n, D), each image by itself.
            device: where `network` computes and the features stay.
            progress: whether to show a bar.
            split: whose episodes to embed.
            episodes: how many of them; None for all.

        Returns:
            A data module whose only store is this split's features, x (T, n, D). Use this split
            alone, and with `episodes` that many episodes at most.
        """
        store = self.stores[split]
        data = copy.copy(self)  # with the same samplers and episodes
        count = self.evaluation[split] if episodes is None else episodes
        used = rows_of(store, self.samplers[split].indices(0, count))
        data.stores = {
            split: embedded_images.embed(
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
        data = copy.copy(self)
        query = self.samplers["test"].query
        key = key_of("test", EVALUATION_SEED)
        data.samplers = {"test": self.stores["test"].sampler(way, shot, query, key, "test")}
        data._check_memory()
        return data

    def test_indices(self) -> Any:
        """Classes and images of all test episodes, or the numbers that define functions."""
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
        if training and self.meta_batch % share.processes:
            raise UsageError(
                f"{share.processes} devices cannot share a meta-batch of {self.meta_batch} tasks: "
                f"take a --meta_batch that {share.processes} divides"
            )
        if share.processes > 1 and episodes - first < share.processes:
            raise UsageError(
                f"{episodes - first} {split} episodes cannot be divided among {share.processes} "
                "devices: take fewer devices"
            )
        tasks = self.meta_batch if training else self.eval_batch * share.processes
        return MetaBatches(
            self.stores[split],
            self.samplers[split],
            episodes,
            tasks,
            first,
            training=training,
            augmented=training and bool(self.augmentations),
            share=share,
            served=self.served,
            repeats=bool(getattr(self.trainer, "overfit_batches", 0)),
        )

    @property
    def share(self) -> Share:
        """This process's share of every batch, as the trainer has it."""
        trainer = self.trainer
        return Share(trainer.global_rank, trainer.world_size) if trainer else Share()

    def on_after_batch_transfer(self, batch: PixelBatch | Episode, dataloader_idx: int) -> Episode:
        """Augment and normalise images on the device; leave features and functions as they are."""
        if isinstance(batch, Episode):
            return batch
        x, n = batch.x, batch.support
        if batch.keys is not None:
            numbers = numbers_for(batch.keys, x.shape[1])
            pixels = augment(x.flatten(0, 1), self.augmentations, numbers, self.size)
            x = self.normalise_pixels(pixels).unflatten(0, x.shape[:2])
        elif not x.is_floating_point():
            x = self.normalise(x)
        return Episode(
            Examples(x[:, :n], batch.y[:, :n]), Examples(x[:, n:], batch.y[:, n:]), batch.way
        )

    def normalise(self, x: Tensor) -> Tensor:
        """Stored pixels (..., C, h, w) resized and normalised for a network: (..., C, H, W)."""
        if x.is_floating_point():  # rows of a table, which are normalised already
            return x
        return self.normalise_pixels(x)

    def normalise_pixels(self, pixels: Tensor) -> Tensor:
        """Resize and normalise pixels from 0 to 255: (..., C, h, w) -> (..., C, H, W).

        They are uint8, or floating-point numbers if they are augmented. Unlike `normalise`, it
        never returns floating-point numbers unchanged.
        """
        return normalised_pixels(self.sized(pixels), self.mean, self.std)

    def sized(self, x: Tensor) -> Tensor:
        """Stored pixels (..., C, h, w) in the size that a learner is given: (..., C, H, W)."""
        return at_size(x, self.size) if self.size else x

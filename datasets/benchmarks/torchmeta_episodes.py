"""The episodes that a torchmeta loader draws, seeded one by one.

A `BatchMetaDataLoader` takes its randomness from many places: the global states of Python, numpy
and torch, and those of its data set and of the data set's transforms. Here all of them are seeded
for each episode by a key and the episode's number, and the global ones are put back afterwards. So
an episode is the same whichever were loaded before it, in whichever process.
"""

import hashlib
import random
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from zoo import Episode, Examples
from zoo.datasets.benchmarks.in_memory import pixels_of
from zoo.datasets.episodes.hash_random import Integers, derive, draw, key_of
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError

PARTS = (("train", "test"), ("support", "query"))  # what ClassSplitter calls support and query
LOOKED_AT = 16  # episodes whose content identifies a loader's data
DRAWN_AHEAD = 256  # tasks that are drawn at once for the processes that load ahead


class Shape(NamedTuple):
    """The shape of a loader's episodes."""

    way: int  # N; in regression the number of outputs
    shot: int  # K; in regression the number of support points
    query: int  # Q a class; in regression the number of query points
    image: tuple[int, ...]  # of one input
    regression: bool


class TaskNumbers(NamedTuple):
    """Which episodes of a loader these are."""

    number: Integers  # (T,)
    task: Integers  # (T, m), what its sampler drew: the classes of each, or the number of a task


class TaskOrder:
    """Which tasks the episodes of one key are, as the loader's own sampler draws them."""

    def __init__(self, sampler: Any, where: str, key: NDArray[np.uint64]) -> None:
        """Draw nothing yet.

        Args:
            sampler: of the loader.
            where: the loader is from, for messages.
            key: from `zoo.datasets.episodes.hash_random.key_of`.
        """
        self.sampler, self.where, self.key = sampler, where, key
        self._drawn: list[Any] = []
        self._pass: Iterator[Any] = iter(())

    def indices(self, first: int, tasks: int) -> TaskNumbers:
        """Episodes first, ..., first + tasks - 1."""
        last = first + tasks
        with isolate_rng(include_cuda=False):
            while len(self._drawn) < last:
                seed_globals(self._seed(0, len(self._drawn)))
                self._drawn.append(self._next())
        rows = [whole_numbers(task) for task in self._drawn[first:last]]
        return TaskNumbers(np.arange(first, last), np.array(rows, np.int64))

    def task(self, number: int) -> tuple[int, Any]:
        """The seed of an episode, and its task's index in the loader's data set."""
        if number >= len(self._drawn):
            self.indices(number, 1)
        return self._seed(1, number), self._drawn[number]

    def _next(self) -> Any:
        """What the loader's sampler draws next; it begins anew where a pass has ended."""
        for _ in range(2):
            with suppress(StopIteration):
                return next(self._pass)
            self._pass = iter(self.sampler)
        raise UsageError(f"{self.where}: its sampler draws no task")

    def _seed(self, stream: int, number: int) -> int:
        """A seed for one episode, in [0, 2^63)."""
        key = derive(self.key, np.array([stream], np.uint64))
        return int(derive(key, np.array([number], np.uint64))[0] >> np.uint64(1))


class LoaderSampler(TaskOrder):
    """The order of a loader's tasks with the shape of its episodes, as the data module wants it."""

    def __init__(self, sampler: Any, where: str, key: NDArray[np.uint64], shape: Shape) -> None:
        super().__init__(sampler, where, key)
        self.way, self.shot, self.query = shape[:3]


class LoaderEpisodes:
    """The episodes of one loader; for learners what a store of images is.

    The loader's sampler draws the tasks, its data set and its ``collate_fn`` make their examples,
    and its ``batch_size`` is the number of tasks of a meta-batch. With ``num_workers`` above 0, as
    many processes load episodes ahead.
    """

    def __init__(self, loader: Any, where: str) -> None:
        """Load one episode, to learn its shape.

        Args:
            loader: a `BatchMetaDataLoader`, or another DataLoader whose batches are like its.
            where: the loader is from, for messages.

        Raises:
            UsageError: it is no such loader, or it fails.
        """
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            raise UsageError(
                f"{where}: a {type(loader).__name__}; expected a BatchMetaDataLoader of torchmeta"
            )
        self.loader, self.where = loader, where
        self._ahead: tuple[LoaderSampler, int, Iterator[Any]] | None = None
        # What a data set draws once and then keeps, as Sinusoid its amplitudes, it draws here.
        order = TaskOrder(loader.sampler, where, key_of("torchmeta"))
        seed, task = order.task(0)
        check_hash(task, loader.dataset, where)
        self.shape = shape_of(*examples_of(self.batch(seed, task), where), where)

    def sampler(
        self, way: int, shot: int, query: int, key: NDArray[np.uint64], split: str = ""
    ) -> LoaderSampler:
        """The sampler of episodes of this shape.

        Raises:
            UsageError: the loader's are of another.
        """
        has = self.shape
        if has.regression:
            way = has.way
        if (way, shot, query) != has[:3]:
            raise UsageError(
                f"{self.where}: its episodes have {has.way} ways, {has.shot} shots and {has.query} "
                f"queries; expected {way}, {shot} and {query}: the loaders of val and test must "
                "have one shape, and a learner with an output for each way that of train too"
            )
        return LoaderSampler(self.loader.sampler, self.where, key, has)

    def meta_batch(self, drawn: LoaderSampler, numbers: TaskNumbers) -> Episode:
        """The episodes as a learner is given them, with the values that the loader gives."""
        parts = [self.one(drawn, number) for number in numbers.number.tolist()]
        support, query = (
            Examples(torch.cat([part.x for part in side]), torch.cat([part.y for part in side]))
            for side in zip(*parts, strict=True)
        )
        return Episode(support, query, self.shape.way)

    def one(self, drawn: LoaderSampler, number: int) -> tuple[Examples, Examples]:
        """Support and query of an episode, T = 1: support in random order, queries by class."""
        if self.loader.num_workers:
            batch = self._loaded_ahead(drawn, number)
        else:
            batch = self.batch(*drawn.task(number))
        support, query = examples_of(batch, self.where)
        if (found := shape_of(support, query, self.where)) != self.shape:
            raise UsageError(
                f"{self.where}: episode {number} has another shape than the first, {found} after "
                f"{self.shape}; expected the same of all"
            )
        if self.shape.regression:
            return support, query
        key = derive(drawn.key, np.array([2], np.uint64))
        key = derive(key, np.array([number], np.uint64))
        examples = support.y.shape[1]
        order = torch.from_numpy(draw(key, np.array([examples]), examples)[0])
        by_class = query.y[0].argsort(stable=True)
        return (
            Examples(support.x[:, order], support.y[:, order]),
            Examples(query.x[:, by_class], query.y[:, by_class]),
        )

    def batch(self, seed: int, task: Any) -> Any:
        """The loader's batch of one task, with every random state set by `seed`.

        Raises:
            UsageError: the loader's data set, its transforms or its `collate_fn` failed.
        """
        with isolate_rng(include_cuda=False):
            seed_globals(seed)
            try:
                if callable(reseed := getattr(self.loader.dataset, "seed", None)):
                    reseed(seed % 2**32)
                return self.loader.collate_fn([self.loader.dataset[task]])
            except UsageError:
                raise
            except Exception as error:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                raise UsageError(
                    f"{self.where}: task {task} cannot be loaded: {reason:.200} "
                    f"({frame.filename}, line {frame.lineno})"
                ) from error

    def _loaded_ahead(self, drawn: LoaderSampler, number: int) -> Any:
        """The batch of one task, which other processes have loaded ahead."""
        if self._ahead is None or self._ahead[:2] != (drawn, number):
            loader = self.loader
            close_files(loader.dataset)
            ahead = DataLoader(
                _Tasks(self),
                batch_size=None,
                sampler=_From(drawn, number),
                collate_fn=as_it_is,
                num_workers=loader.num_workers,
                worker_init_fn=loader.worker_init_fn,
                timeout=loader.timeout,
            )
            self._ahead = drawn, number, iter(ahead)
        _, _, batches = self._ahead
        batch = next(batches)
        self._ahead = drawn, number + 1, batches
        if isinstance(batch, UsageError):
            raise batch
        return batch

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the first episodes of a key of its own.

        Their numbers are rounded, so that it is the same on every machine.
        """
        drawn = LoaderSampler(self.loader.sampler, self.where, key_of("torchmeta"), self.shape)
        digest = hashlib.blake2b(repr(self.shape).encode(), digest_size=8)
        for number in range(LOOKED_AT):
            for part in examples_of(self.batch(*drawn.task(number)), self.where):
                for values in part:
                    rounded = values if values.dtype == torch.int64 else (values * 255).round()
                    digest.update(rounded.numpy().astype("<i4").tobytes())
        return f"torchmeta {digest.hexdigest()}"

    @cached_property
    def images(self) -> Store:
        """Its images class by class, in memory, for what trains before the episodes.

        Raises:
            UsageError: its data set has no classes, or values that are no pixels.
        """
        classes: Any = getattr(self.loader.dataset, "dataset", None)
        if self.shape.regression or not hasattr(classes, "num_classes"):
            raise UsageError(
                f"{self.where}: a pre-training needs its images class by class; expected a data "
                "set that combines the classes of a ClassDataset"
            )
        names, arrays = [], []
        with isolate_rng(include_cuda=False):
            for number in range(len(classes)):
                seed_globals(number)
                task = classes[number]
                where = f"{self.where}: class {number}"
                arrays.append(np.stack([pixels_of(task[i][0], where) for i in range(len(task))]))
                names.append(f"class {number:06}")
        return Store.from_arrays(names, arrays)


class _Tasks(Dataset[Any]):
    """A loader's batches of one task each, by their seeds and indices."""

    def __init__(self, episodes: LoaderEpisodes) -> None:
        self.episodes = episodes

    def __getitem__(self, task: tuple[int, Any]) -> Any:
        """The batch, or the error instead, because a worker's would come with its traceback."""
        try:
            return self.episodes.batch(*task)
        except UsageError as error:
            return error


class _From:
    """Seeds and indices of the episodes from one number on, without an end."""

    def __init__(self, drawn: LoaderSampler, first: int) -> None:
        self.drawn, self.first = drawn, first

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        for number in count(self.first):
            if (number - self.first) % DRAWN_AHEAD == 0:
                self.drawn.indices(number, DRAWN_AHEAD)
            yield self.drawn.task(number)


def as_it_is(batch: Any) -> Any:
    """The batch itself."""
    return batch


def close_files(dataset: Any) -> None:
    """Close the HDF5 file of a data set, because processes must not share an open one."""
    close = getattr(getattr(dataset, "dataset", None), "close", None)
    if callable(close):
        with suppress(AttributeError):  # torchmeta's fail if the file was never opened
            close()


def seed_globals(seed: int) -> None:
    """Seed Python, numpy and torch (on the CPU) by a number in [0, 2^63)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def whole_numbers(task: Any) -> list[int]:
    """The index of a task as whole numbers; of an index that is none, a hash of how it prints."""
    parts = task if isinstance(task, tuple | list) else [task]
    if all(isinstance(part, int | np.integer) for part in parts):
        return [int(part) for part in parts]
    digest = hashlib.blake2b(repr(task).encode(), digest_size=4).digest()
    return [int.from_bytes(digest) >> 1]


def check_hash(task: Any, dataset: Any, where: str) -> None:
    """Refuse tasks whose hash differs from process to process, as that of text does.

    `ClassSplitter` takes the hash of a task, which is that of its index, for a seed.

    Raises:
        UsageError: the index of a task or of a class has text in it.
    """
    classes: Any = getattr(dataset, "dataset", None)
    indices = [task]
    if isinstance(task, tuple) and hasattr(classes, "num_classes"):
        with isolate_rng(include_cuda=False):
            seed_globals(0)
            indices += [getattr(classes[number], "index", None) for number in task]
    if any(has_text(index) for index in indices):
        raise UsageError(
            f"{where}: a task or a class has text as its index, so its split into support and "
            "query differs from process to process; give it a number, Task(number, ...)"
        )


def has_text(index: Any) -> bool:
    """Whether an index is text, or has text in it."""
    if isinstance(index, tuple | list):
        return any(map(has_text, index))
    return isinstance(index, str | bytes)


def examples_of(batch: Any, where: str) -> tuple[Examples, Examples]:
    """Support and query of a torchmeta batch, as floats and labels or regression outputs.

    Args:
        batch: ``{"train": (inputs, targets), "test": (inputs, targets)}``.
        where: it is from, for messages.

    Raises:
        UsageError: it is no such batch.
    """
    pairs = [pair for pair in PARTS if isinstance(batch, Mapping) and {*pair} == {*batch}]
    if not pairs:
        found = f"parts {', '.join(batch)}" if isinstance(batch, Mapping) else "no parts"
        raise UsageError(
            f"{where}: batches have {found}; expected train and test, or support and query: give "
            "the data set a ClassSplitter"
        )
    support, query = (_examples(batch[part], f"{where}: {part}") for part in pairs[0])
    return support, query


def _examples(part: Any, where: str) -> Examples:
    """Inputs and targets of one part of a batch."""
    if not isinstance(part, Sequence) or len(part) != 2:
        raise UsageError(f"{where}: expected a pair of inputs and targets")
    x, y = part
    if not isinstance(x, Tensor) or x.dim() < 3:
        raise UsageError(f"{where}: inputs are {kind_of(x)}; expected a tensor (tasks, n, *image)")
    if not isinstance(y, Tensor):
        raise UsageError(
            f"{where}: targets are {kind_of(y)}; expected numbers: take Categorical(num_classes=N) "
            "for target_transform"
        )
    x = x.float() / 255 if x.dtype == torch.uint8 else x.to(torch.get_default_dtype())
    if not y.is_floating_point():
        return Examples(x, y.long())
    return Examples(x, (y.unsqueeze(2) if y.dim() == 2 else y).to(x.dtype))


def kind_of(value: Any) -> str:
    """A value in a message: its type, of a tensor its shape."""
    return f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def shape_of(support: Examples, query: Examples, where: str) -> Shape:
    """The shape of an episode.

    Raises:
        UsageError: its labels are not 0 to N-1, or not as many of each class.
    """
    image = tuple(support.x.shape[2:])
    if support.y.is_floating_point():
        return Shape(support.y.shape[2], support.y.shape[1], query.y.shape[1], image, True)
    way = int(support.y.max()) + 1
    counts: list[int] = []
    for part in (support, query):
        low, high = int(part.y.min()), int(part.y.max())
        if part.y.dim() != 2 or low < 0 or high >= way:
            raise UsageError(
                f"{where}: labels from {low} to {high} of shape {tuple(part.y.shape)}; expected "
                f"0 to {way - 1}, one for each example: take Categorical(num_classes=N)"
            )
        of_class = torch.bincount(part.y[0], minlength=way).tolist()
        if len({*of_class}) != 1:
            raise UsageError(
                f"{where}: {of_class} examples of the classes; expected as many of each"
            )
        counts.append(of_class[0])
    shot, queries = counts
    return Shape(way, shot, queries, image, False)

"""Loaders that behave like torchmeta's, for tests that are to run without it.

Tasks are drawn by Python's global random numbers, as its `CombinationRandomSampler` does, labels by
torch's, as its `Categorical`, the split by the data set's own, as its `ClassSplitter`; images get
noise from numpy's.
"""

import random
from collections import OrderedDict

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

CLASSES = 12
PER_CLASS = 10


class Combinations(Sampler):
    def __iter__(self):
        while True:
            yield tuple(random.sample(range(CLASSES), 5))


class Classes:
    """As torchmeta's `ClassDataset`: each item is a class, a data set of (image, label)."""

    num_classes = CLASSES

    def __init__(self, tasks: "Tasks"):
        self.tasks = tasks

    def __len__(self):
        return CLASSES

    def __getitem__(self, number):
        return [(self.tasks.image(number, 0), number) for _ in range(PER_CLASS)]


class Tasks(Dataset):
    """5-way tasks on grey images; each class has a picture of its own."""

    def __init__(self, split: int, shot: int, query: int, noise: float = 0.1):
        self.means = np.random.RandomState(split).uniform(size=(CLASSES, 1, 7, 7)).repeat(4, 2)
        self.means = self.means.repeat(4, 3)
        self.shot, self.query, self.noise = shot, query, noise
        self.random = np.random.RandomState()
        self.dataset = Classes(self)

    def image(self, number, shift):
        noise = np.random.normal(0, self.noise, (1, 28, 28))
        return torch.from_numpy((self.means[number] + shift + noise).clip(0, 1)).float()

    def seed(self, seed):
        self.random = np.random.RandomState(seed)

    def __len__(self):
        return CLASSES**5

    def __getitem__(self, classes):
        labels = torch.randperm(5).tolist()
        task = OrderedDict(train=[], test=[])
        for number, label in zip(classes, labels, strict=True):
            shift = self.random.uniform(-0.2, 0.2)
            for part, count in (("train", self.shot), ("test", self.query)):
                task[part] += [(self.image(number, shift), label) for _ in range(count)]
        return task


def collate(tasks):
    """As torchmeta's `BatchMetaCollate`: each task's examples, then the tasks."""
    return default_collate(
        [
            OrderedDict((part, default_collate(rows)) for part, rows in task.items())
            for task in tasks
        ]
    )


def loader(split: int = 0, shot: int = 1, query: int = 3, batch_size: int = 4, **options):
    """A loader of 5-way tasks."""
    tasks = Tasks(split, shot, query)
    return DataLoader(tasks, batch_size, sampler=Combinations(), collate_fn=collate, **options)


def loaders(**options):
    """One for each split."""
    return {name: loader(i, **options) for i, name in enumerate(("train", "val", "test"))}


class Lines(Dataset):
    """Tasks of regression, y = a x + b with float64 numbers, as torchmeta's toys have."""

    def __len__(self):
        return 50

    def __getitem__(self, number):
        a, b = np.random.uniform(-1, 1, 2)
        x = np.random.uniform(-5, 5, (15, 1))
        rows = [*zip(x, a * x + b, strict=True)]
        return OrderedDict(train=rows[:10], test=rows[10:])


def lines():
    """Loaders of regression."""
    make = lambda: DataLoader(Lines(), 4, shuffle=True, collate_fn=collate)  # noqa: E731
    return {"train": make(), "val": make(), "test": make()}


def no_test():
    return {"train": loader()}


def fails():
    raise ValueError("no such folder: /nowhere")


class Rows(Tasks):
    """Tasks on rows of a table, as torchmeta's tabular data sets have, 6 numbers each."""

    def image(self, number, shift):
        return super().image(number, shift)[0, ::4, 1].contiguous()[:6] - 0.5


def rows():
    """Loaders of rows."""
    make = lambda split: DataLoader(  # noqa: E731
        Rows(split, 5, 3), 4, sampler=Combinations(), collate_fn=collate
    )
    return {name: make(i) for i, name in enumerate(("train", "val", "test"))}

"""CIFAR-100, python version (Krizhevsky 2009), of which CIFAR-FS and FC100 are splits.

``train``, ``test`` and ``meta`` are pickles of Python 2. ``data`` is uint8 (n, 3072), the three
32x32 planes of an image one after the other. A class of the few-shot benchmarks has both its 500
train and its 100 test images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from zoo.datasets.readers.arrays import as_text, entries, entry, short_repr
from zoo.datasets.readers.base import Reader
from zoo.errors import UsageError

CLASSES = 100
UNPACK_AGAIN = "unpack cifar-100-python.tar.gz again"


class Cifar100Python(Reader):
    """The publisher's three pickles."""

    form = "CIFAR-100 python version"
    needs = "train, test and meta (from cifar-100-python.tar.gz)"
    homes = ("cifar-100-python", "cifar100/cifar-100-python", "cifar100")
    recipe = "RGB 32x32, train and test joined, 1"
    again = UNPACK_AGAIN

    def __init__(self, folder: Path, lists: dict[str, list[str]], per_class: int | None) -> None:
        super().__init__(folder, lists, per_class)
        self._loaded: tuple[np.ndarray, np.ndarray] | None = None
        self._labels: dict[str, int] = {}

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Whether two of the three files are there; a message then names the missing one."""
        return sum((folder / name).is_file() for name in ("train", "test", "meta")) >= 2

    def files(self) -> list[Path]:
        """The three pickles."""
        return [self.folder / name for name in ("train", "test", "meta")]

    def where(self, split: str) -> Path:
        """The folder, because all three files together say which classes there are."""
        return self.folder

    def scan(self, split: str) -> Mapping[str, Sequence[np.ndarray]]:
        """Rows (3072,) by the name of the fine class; see `Reader.scan`."""
        data, labels = self._load()
        return {name: data[labels == self._labels[name]] for name in self.lists[split]}

    def decode(self, item: np.ndarray) -> np.ndarray:
        """The image (3, 32, 32) of a row: RGB."""
        return item.reshape(3, 32, 32)

    def _load(self) -> tuple[np.ndarray, np.ndarray]:
        """All pixels, uint8 (60000, 3072), and their labels, int64 (60000,), after checks."""
        if self._loaded is None:
            self._labels = self._read_meta()
            train, test = self._read_part("train"), self._read_part("test")
            data = np.concatenate([train[0], test[0]])
            labels = np.concatenate([train[1], test[1]])
            self._loaded = (data, labels)
        return self._loaded

    def _read_meta(self) -> dict[str, int]:
        """The label of each class, by its name."""
        path = self.folder / "meta"
        names = as_text(
            entry(path, entries(path, UNPACK_AGAIN), "fine_label_names", list, UNPACK_AGAIN)
        )
        if not all(isinstance(name, str) for name in names):
            raise UsageError(f"{path}: expected 'fine_label_names' to be text; {UNPACK_AGAIN}")
        wanted = {name for split in self.lists.values() for name in split}
        for name in names:
            if not isinstance(name, str):
                raise UsageError(f"{path}: {short_repr(name)} is no class name; {UNPACK_AGAIN}")
            if names.count(name) > 1:
                raise UsageError(f"{path}: class {name!r} is named twice; {UNPACK_AGAIN}")
        for name in sorted(wanted.difference(names)):
            raise UsageError(f"{path}: class {name!r} is missing; {UNPACK_AGAIN}")
        if len(names) != CLASSES:
            raise UsageError(
                f"{path}: expected {CLASSES} class names, found {len(names)}; {UNPACK_AGAIN}"
            )
        return {name: label for label, name in enumerate(names)}

    def _read_part(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Pixels uint8 (n, 3072) and labels int64 (n,) of ``train`` or ``test``."""
        path = self.folder / part
        batch = entries(path, UNPACK_AGAIN)
        data = entry(path, batch, "data", np.ndarray, UNPACK_AGAIN)
        labels = entry(path, batch, "fine_labels", list, UNPACK_AGAIN)
        if data.dtype != np.uint8 or data.shape != (len(labels), 3072):
            raise UsageError(
                f"{path}: expected data of uint8 ({len(labels)}, 3072), one row a label, found "
                f"{data.dtype} {data.shape}; {UNPACK_AGAIN}"
            )
        if not all(isinstance(label, int) and 0 <= label < CLASSES for label in labels):
            raise UsageError(
                f"{path}: expected fine_labels from 0 to {CLASSES - 1}; {UNPACK_AGAIN}"
            )
        return data, np.array(labels)

"""The folders that torchmeta makes: HDF5 with JSON lists (tristandeleu/pytorch-meta).

Of mini-ImageNet, tiered-ImageNet, CUB, CIFAR-FS, FC100 and Omniglot. Needs h5py.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from zoo.datasets.readers.base import (
    FILTER,
    Reader,
    colour_pixels,
    load_image,
    optional_module,
)
from zoo.datasets.readers.omniglot_folders import DRAWN_SIZE, OmniglotReader
from zoo.datasets.splits import tiered_names
from zoo.errors import UsageError


class Row(NamedTuple):
    """An image of an HDF5 dataset."""

    dataset: Any
    row: int
    name: str  # for messages


@contextmanager
def reading(path: object, again: str) -> Iterator[None]:
    """Raise a UsageError in place of what h5py raises if a file is missing or damaged."""
    try:
        yield
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{path}: expected torchmeta's file, it is missing or damaged ({reason}); {again}"
        ) from error


class _Torchmeta(Reader):
    form = "torchmeta HDF5"
    again = "let torchmeta make it again"
    shape: ClassVar[tuple[int, ...]]  # of an image
    encoded: ClassVar[bool] = False  # whether datasets may have encoded images instead of pixels

    def __init__(self, folder: Path, lists: dict[str, list[str]], per_class: int | None) -> None:
        super().__init__(folder, lists, per_class)
        self._open: dict[Path, Any] = {}

    def file(self, path: Path) -> Any:
        """The opened HDF5 file; it stays open.

        Raises:
            UsageError: h5py is not installed, or the file is missing or damaged.
        """
        h5py = optional_module("h5py", path)
        if path not in self._open:
            with reading(path, self.again):
                self._open[path] = h5py.File(path, "r")
        return self._open[path]

    def rows(self, dataset: Any, name: str) -> list[Row]:
        """The images of a dataset.

        Args:
            dataset: of HDF5.
            name: what messages call it.

        Raises:
            UsageError: the dataset holds something else than images of this form.
        """
        import h5py

        dtype, shape = dataset.dtype, dataset.shape
        is_encoded = self.encoded and len(shape) == 1 and h5py.check_vlen_dtype(dtype) == np.uint8
        if not is_encoded and (dtype != np.uint8 or shape[1:] != self.shape):
            sizes = ", ".join(map(str, self.shape))
            expected = f"uint8 (n, {sizes})"
            if self.encoded:
                expected += " or files"
            raise UsageError(f"{name}: expected {expected}, found {dtype} {shape}; {self.again}")
        return [Row(dataset, row, f"{name}, image {row}") for row in range(len(dataset))]

    def value(self, item: Row) -> np.ndarray:
        """The row of the dataset: pixels, or the bytes of an encoded image."""
        with reading(item.name, self.again):
            return np.asarray(item.dataset[item.row])

    def labels(self, path: Path) -> list[Any]:
        """The classes that a JSON file lists.

        Raises:
            UsageError: the file holds no list, or a class is in it twice.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(
                f"{path}: expected a JSON list of classes, it is missing or damaged; {self.again}"
            ) from error
        if not isinstance(content, list):
            raise UsageError(f"{path}: expected a JSON list of classes; {self.again}")
        for row, label in enumerate(content):
            if label in content[:row]:
                raise UsageError(f"{path}: class {label!r} is named twice; {self.again}")
        return content


class _Splits(_Torchmeta):
    """One file for each split: pixels (n, 84, 84, 3), or the bytes of image files."""

    needs = "{train,val,test}_data.hdf5 and {train,val,test}_labels.json"
    recipe = f"RGB, squashed to 84x84 where it is not, {FILTER.name}, 1"
    shape = (84, 84, 3)
    encoded = True
    grey: ClassVar[bool] = False  # whether grey images belong to it

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Whether any of the HDF5 files is there."""
        return any((folder / f"{split}_data.hdf5").is_file() for split in lists)

    def files(self) -> list[Path]:
        """Two files for each split: images and the list of classes."""
        parts = ("data.hdf5", "labels.json")
        return [self.folder / f"{split}_{part}" for split in self.lists for part in parts]

    def where(self, split: str) -> Path:
        """The split's list of classes."""
        return self.folder / f"{split}_labels.json"

    def name_of(self, label: str) -> str:
        """The class that a label names."""
        return label

    def scan(self, split: str) -> Mapping[str, Sequence[Row]]:
        """Rows of datasets by class; see `Reader.scan`."""
        path = self.folder / f"{split}_data.hdf5"
        file = self.file(path)
        images: dict[str, list[Row]] = {}
        for label in self.labels(self.where(split)):
            with reading(path, self.again):
                images[self.name_of(label)] = self.rows(file["datasets"][label], f"{path}, {label}")
        return images

    def decode(self, item: Row) -> np.ndarray:
        """The image (3, 84, 84), from its pixels or from the bytes of its file."""
        value = self.value(item)
        if value.ndim == 3:
            return value.transpose(2, 0, 1)
        return colour_pixels(load_image(value.tobytes(), item.name), 84, item.name, self.grey)


class TorchmetaMini(_Splits):
    """mini-ImageNet, by wnid."""

    homes = ("miniimagenet",)


class TorchmetaTiered(_Splits):
    """tiered-ImageNet, by full name."""

    homes = ("tieredimagenet",)

    def name_of(self, label: str) -> str:
        """The wnid."""
        return tiered_names().get(label, label)


class TorchmetaCub(_Splits):
    """CUB-200-2011, by the number before the name."""

    homes = ("cub",)
    grey = True

    def name_of(self, label: str) -> str:
        """The number."""
        return label.partition(".")[0]


class _Cifar(_Torchmeta):
    """One file for both benchmarks: superclass/class, 500 train and 100 test images."""

    homes = ("cifar100",)
    recipe = "RGB 32x32, 1"
    shape = (32, 32, 3)
    part: ClassVar[str]

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Whether any of the lists is there: CIFAR-FS and FC100 share the file of images."""
        return any((folder / cls.part / f"{split}_labels.json").is_file() for split in lists)

    def files(self) -> list[Path]:
        """The file of images, and a list of classes for each split."""
        return [self.folder / "data.hdf5", *map(self.where, self.lists)]

    def where(self, split: str) -> Path:
        """The split's list of classes."""
        return self.folder / self.part / f"{split}_labels.json"

    def scan(self, split: str) -> Mapping[str, Sequence[Row]]:
        """Rows of datasets by fine name; see `Reader.scan`."""
        path = self.folder / "data.hdf5"
        file = self.file(path)
        images: dict[str, list[Row]] = {}
        for label in self.labels(self.where(split)):
            with reading(path, self.again):
                coarse, fine = label
                images[fine] = self.rows(file[coarse][fine], f"{path}, {coarse}/{fine}")
        return images

    def decode(self, item: Row) -> np.ndarray:
        """The image (3, 32, 32)."""
        return self.value(item).transpose(2, 0, 1)


class TorchmetaCifarFs(_Cifar):
    """CIFAR-FS."""

    needs = "data.hdf5 and cifar-fs/{train,val,test}_labels.json"
    part = "cifar-fs"


class TorchmetaFc100(_Cifar):
    """FC100."""

    needs = "data.hdf5 and fc100/{train,val,test}_labels.json"
    part = "fc100"


class TorchmetaOmniglot(_Torchmeta, OmniglotReader):
    """Omniglot: ``images_*/Alphabet/characterNN``, uint8 (20, 105, 105), ink 255.

    Our class lists are used, not the JSON files of torchmeta, which are the same.
    """

    needs = "data.hdf5"
    homes = ("omniglot",)
    shape = DRAWN_SIZE

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """The file."""
        return (folder / "data.hdf5").is_file()

    def files(self) -> list[Path]:
        """The file."""
        return [self.folder / "data.hdf5"]

    def where(self, split: str) -> Path:
        """The file."""
        return self.folder / "data.hdf5"

    def scan(self, split: str) -> Mapping[str, Sequence[Row]]:
        """Rows of datasets by ``Alphabet/characterNN``; see `Reader.scan`."""
        path = self.where(split)
        file = self.file(path)
        wanted = set(self.lists[split])
        drawings: dict[str, list[Row]] = {}
        with reading(path, self.again):
            for part in ("images_background", "images_evaluation"):
                for alphabet, characters in file[part].items():
                    for character, dataset in characters.items():
                        name = f"{alphabet}/{character}"
                        if name in wanted:
                            drawings[name] = self.rows(dataset, f"{path}, {part}/{name}")
        return drawings

    def decode(self, item: Row) -> np.ndarray:
        """A drawing (105, 105), ink 0 on ground 255."""
        return 255 - self.value(item)

"""A folder of images for each class: mini- and tiered-ImageNet, CIFAR-FS, FC100, CUB.

Either the class folders of a split lie in a folder with the split's name (as MAML, yaoyao-liu and
learn2learn have them), or those of all splits lie side by side (r2d2's ``data/``, ImageNet's
``train/``). Then the class lists alone say which class is of which split, and classes of no split
are ignored.
"""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from zoo.datasets.readers.base import (
    FILTER,
    MINI_HOMES,
    TIERED_HOMES,
    Reader,
    colour_pixels,
    load_image,
)

SPLIT_FOLDERS = {"train": ("train", "base"), "val": ("val", "valid"), "test": ("test", "novel")}
SHARE = 0.75  # of a set's classes: if more of them have a folder, the folders are of this set
IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff"}


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, in the order of their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")
    )


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, in the order of their names."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # tells folders from files without a call for each
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    return [folder / name for name in sorted(names)]


class ClassFolders(Reader):
    """mini- or tiered-ImageNet, by WordNet id."""

    form = "class folders"
    needs = "train/, val/ and test/ with a folder a class, or the folders of all classes"
    homes: ClassVar[tuple[str, ...]] = (
        *MINI_HOMES,
        "miniimagenet/data", "processed_images", "miniimagenet/processed_images",
    )  # fmt: skip
    recipe = f"RGB, squashed to 84x84 where it is not, {FILTER.name}, 1"
    side: int = 84
    grey: ClassVar[bool] = False  # whether grey images belong to it

    @classmethod
    def name_of(cls, folder: Path) -> str:
        """The name of the class whose images a folder holds."""
        return folder.name

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Whether more than `SHARE` of the classes have a folder.

        Fewer do not tell the set: mini- and tiered-ImageNet have many classes in common.
        """
        listed = {name for names in lists.values() for name in names}
        parents = [folder, *(folder / name for names in SPLIT_FOLDERS.values() for name in names)]
        present = {cls.name_of(path) for parent in parents for path in folders_in(parent)}
        return len(listed & present) > SHARE * len(listed)

    def files(self) -> list[Path]:
        """The class folders."""
        return sorted(path for split in self.lists for path in self._folders(split))

    def where(self, split: str) -> Path:
        """The folder of the split; if there is none, the folder of all classes."""
        candidates = [self.folder / name for name in SPLIT_FOLDERS[split]]
        # Without folders in it, it may be a class's folder: CIFAR-100 has a class called train.
        return next((path for path in candidates if folders_in(path)), self.folder)

    def scan(self, split: str) -> Mapping[str, Sequence[Path]]:
        """Image files by class; see `Reader.scan`."""
        return {self.name_of(path): images_in(path) for path in self._folders(split)}

    def image_files(self, split: str) -> Iterator[Path]:
        """All images of the split."""
        return itertools.chain(*self.scanned(split).values())

    def decode(self, item: Path) -> np.ndarray:
        """The image (3, side, side) of a file."""
        return colour_pixels(load_image(item), self.side, item, convert=self.grey)

    def _folders(self, split: str) -> list[Path]:
        parent = self.where(split)
        folders = folders_in(parent)
        if parent == self.folder:  # which has classes of other splits too
            folders = [path for path in folders if self.name_of(path) in self.lists[split]]
        return folders


class TieredFolders(ClassFolders):
    """tiered-ImageNet, by WordNet id: as ImageNet's own folder ``train/``, or split."""

    homes = (
        *TIERED_HOMES,
        "ILSVRC2012_img_train", "ILSVRC/Data/CLS-LOC/train", "imagenet/train",
    )  # fmt: skip
    grey = True  # some of ImageNet's images are


class R2d2Folders(ClassFolders):
    """CIFAR-100's classes as folders (Bertinetto et al. 2019)."""

    form = "r2d2 folders"
    needs = "cifar100/data/ (from cifar100.zip), a folder a class"
    homes: ClassVar[tuple[str, ...]] = (
        "cifar100/data", "cifarfs/cifar100/data", "cifarfs/data", "cifarfs", "cifarfs/processed",
        "CIFAR-FS", "data",
    )  # fmt: skip
    recipe = "RGB 32x32, 1"
    side = 32


class CubFolders(ClassFolders):
    """CUB-200-2011 (Wah et al. 2011): ``images/NNN.Species/``; a class is its number."""

    form = "CUB-200-2011 folder"
    needs = "images/ with the 200 folders (from CUB_200_2011.tgz)"
    homes: ClassVar[tuple[str, ...]] = (
        "images",
        "CUB_200_2011/images",
        "cub/CUB_200_2011/images",
        "cub/images",
        "cub",
    )
    grey = True  # a few are

    @classmethod
    def name_of(cls, folder: Path) -> str:
        """``001`` of ``001.Black_footed_Albatross``."""
        return folder.name.partition(".")[0]

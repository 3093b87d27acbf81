"""Published sets whose images a list names: Closer Look's, easyfsl's and LibFewShot's files.

The forms are described in `image_lists`. A list says which images a class has; which classes a
split has, the published class lists say, whatever split the list gives them.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from zoo.datasets.readers.base import MINI_HOMES, TIERED_HOMES, Reader
from zoo.datasets.readers.class_folders import SHARE, ClassFolders, CubFolders, R2d2Folders
from zoo.datasets.readers.image_lists import (
    CLOSER_LOOK,
    ImageList,
    find_list,
    locate,
    read_list,
    where_to_put,
)
from zoo.datasets.readers.omniglot_folders import OmniglotFolders, OmniglotReader
from zoo.datasets.readers.own_listing import NAMED
from zoo.datasets.readers.ravi_csv import RaviCsv
from zoo.errors import UsageError


class _Listed(Reader):
    form = "image lists"
    needs = "base.json, train.json or train.csv"
    again = "write the list again, with all images of each class"

    @classmethod
    def name_of_class(cls, name: str) -> str:
        """The published name of a class that a list calls `name`."""
        return name

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Whether a list in the folder names more than `SHARE` of the classes.

        Of files that are damaged or missing the messages tell later, if the others tell the set.
        """
        try:
            found = find_list(folder)
        except UsageError:  # of no set that can be told; own images say what is wrong
            return False
        if found is None:
            return False
        named: set[str] = set()
        splits: list[str] = []
        for split, path in found.files.items():
            try:
                listed = read_list(ImageList(found.form, {split: path}))
            except UsageError:
                continue
            splits += lists if split == "all" else [split]
            named |= {cls.name_of_class(name) for classes in listed.values() for name in classes}
        published = {name for names in lists.values() for name in names}
        wanted = sum(len(lists.get(split, ())) for split in splits)
        return bool(wanted) and len(published & named) > SHARE * wanted

    @cached_property
    def _list(self) -> ImageList:
        found = find_list(self.folder)
        if found is None:
            raise UsageError(f"{self.folder}: the list of images is gone; {self.again}")
        return found

    @cached_property
    def _found(self) -> tuple[dict[str, list[Path]], dict[str, list[str]]]:
        """The image files of each class, and the missing paths that each of the list's files has.

        Raises:
            UsageError: a file is damaged, or a class is in two splits.
        """
        listed = read_list(self._list)
        split_of: dict[str, str] = {}
        for split, classes in listed.items():
            for name in map(self.name_of_class, classes):
                if split_of.setdefault(name, split) != split:
                    raise UsageError(
                        f"{self.where(split)}: class {name!r} is in {split_of[name]} too, expected "
                        f"it in one split; {self.again}"
                    )
        located = locate(self.folder, self._list, listed)
        images: dict[str, list[Path]] = {}
        for classes_of in located.splits.values():
            for name, files in classes_of.items():
                paths = images.setdefault(self.name_of_class(name), [])
                paths += [Path(file.path) for file in files]
        elsewhere = [
            name
            for split, names in self.lists.items()
            for name in names
            if split_of.get(name, split) not in (split, "all")
        ]
        if elsewhere:
            self.remark = (
                f"{self._list.form} has {len(elsewhere)} classes in another split than the "
                "published one, which is used; the benchmark folder uses the list's"
            )
        return images, located.missing

    def files(self) -> list[Path]:
        """The list's files and the folders of the images."""
        images, _ = self._found
        folders = {path.parent for paths in images.values() for path in paths}
        return [*map(self.where, self.lists), *sorted(folders)]

    def where(self, split: str) -> Path:
        """The file that lists the split; where it is missing, the path where it would be."""
        files, first = self._list.files, next(iter(self._list.files.values()))
        if split in files or "all" in files:
            return files.get(split, first)
        stems = {"train": "base", "test": "novel"} if self._list.form == CLOSER_LOOK else {}
        return first.with_name(stems.get(split, split) + first.suffix)

    def scan(self, split: str) -> Mapping[str, Sequence[Path]]:
        """Image files by class, after a check that none is missing; see `Reader.scan`."""
        images, missing = self._found
        for of_split, paths in missing.items():
            some = ", ".join(paths[:NAMED]) + (", ..." if len(paths) > NAMED else "")
            raise UsageError(
                f"{self._list.files[of_split]}: {self._list.form}, of whose images {len(paths):,} "
                f"are missing ({some}); {where_to_put(self.folder)}"
            )
        return {name: images[name] for name in self.lists[split] if name in images}


class MiniLists(_Listed, ClassFolders):
    """mini-ImageNet, by wnid."""

    homes = (*MINI_HOMES, "filelists/miniImagenet", "data/mini_imagenet")

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """As for the others; csv files of Ravi & Larochelle's form have another reader."""
        return not RaviCsv.is_in(folder, lists) and super().is_in(folder, lists)


class TieredLists(_Listed, ClassFolders):
    """tiered-ImageNet, by wnid."""

    homes = (*TIERED_HOMES, "data/tiered_imagenet")
    grey = True


class CifarLists(_Listed, R2d2Folders):
    """CIFAR-FS or FC100, by CIFAR-100's fine names."""

    homes = ("cifar100", "cifarfs", "fc100", "CIFAR-FS", "FC100")


class CubLists(_Listed, CubFolders):
    """CUB-200-2011, by species' numbers or by their full names."""

    homes = ("cub", "CUB", "CUB_200_2011", "filelists/CUB", "data/CUB")

    @classmethod
    def name_of_class(cls, name: str) -> str:
        """``001`` of ``001.Black_footed_Albatross``."""
        return name.partition(".")[0]


class OmniglotLists(_Listed, OmniglotReader):
    """Omniglot's drawings, by ``Alphabet/characterNN``, without rotations."""

    homes = ("omniglot", "filelists/omniglot")

    def decode(self, item: Path) -> np.ndarray:
        """A drawing (105, 105), ink 0 on ground 255."""
        return OmniglotFolders.decode(self, item)  # type: ignore[arg-type]

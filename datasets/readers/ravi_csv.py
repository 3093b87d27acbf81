"""mini-ImageNet as csv files and one folder of JPEGs (Ravi & Larochelle 2017).

``train.csv``, ``val.csv``, ``test.csv`` (header ``filename,label``, label = wnid) and ``images/``.
Form: twitter-research/meta-learning-lstm, data/miniImagenet.
"""

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from zoo.datasets.readers.base import (
    FILTER,
    MINI_HOMES,
    Reader,
    colour_pixels,
    load_image,
    readable,
)
from zoo.errors import UsageError

RAVI_SIDE = 84  # the published images are larger


class RaviCsv(Reader):
    """Three csv files that list JPEGs of one folder."""

    form = "Ravi csv + jpg"
    needs = "train.csv, val.csv, test.csv and the folder images/ (from images.zip)"
    homes = MINI_HOMES
    recipe = f"RGB, squashed to {RAVI_SIDE}x{RAVI_SIDE} where it is not, {FILTER.name}, 2"

    def __init__(self, folder: Path, lists: dict[str, list[str]], per_class: int | None) -> None:
        super().__init__(folder, lists, per_class)
        self._present: set[str] | None = None

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Whether two of the three csv files and images/ are there; messages name what is not.

        Csv files of another header, or most of whose classes are not mini-ImageNet's, are others'.
        """
        names = ("train.csv", "val.csv", "test.csv", "images")
        if sum((folder / name).exists() for name in names) < 2:
            return False
        ours = {name for of_split in lists.values() for name in of_split}
        labels: set[str] = set()
        for name in names[:3]:
            try:
                for _, row in _rows(folder / name):
                    if row == ["class_name", "image_name"]:  # easyfsl's
                        return False
                    labels.add(row[-1])
            except UsageError:  # missing or damaged, of which messages tell later
                continue
        return not labels or 2 * len(labels & ours) > len(labels)

    def files(self) -> list[Path]:
        """The csv files and the folder of images."""
        names = ("train.csv", "val.csv", "test.csv", "images")
        return [self.folder / name for name in names]

    def where(self, split: str) -> Path:
        """The split's csv file."""
        return self.folder / f"{split}.csv"

    def scan(self, split: str) -> Mapping[str, Sequence[str]]:
        """File names by wnid, as the csv file lists them; see `Reader.scan`."""
        path = self.where(split)
        listed: dict[str, list[str]] = {}
        seen: set[str] = set()
        for line, row in _rows(path):
            if len(row) != 2:
                raise UsageError(f"{path}, line {line}: expected filename,label; fetch it again")
            file, label = row
            if file in seen:
                raise UsageError(f"{path}, line {line}: {file} is listed twice; fetch it again")
            if not file.startswith(label):
                raise UsageError(
                    f"{path}, line {line}: {file} is not of class {label!r}, whose wnid its name "
                    "should begin with; fetch it again"
                )
            seen.add(file)
            listed.setdefault(label, []).append(file)
        return listed

    def _images(self) -> set[str]:
        if self._present is None:
            folder = self.folder / "images"
            if not folder.is_dir():
                raise UsageError(f"{folder}: expected the folder of JPEGs; unpack images.zip there")
            with readable(folder):
                self._present = {path.name for path in folder.iterdir()}
        return self._present

    def classes(self, split: str) -> list[str]:
        """Wnids, after a check that every listed file is there; see `Reader.classes`."""
        names = super().classes(split)
        present = self._images()
        for file in itertools.chain(*self.scanned(split).values()):
            if file not in present:
                raise UsageError(
                    f"{self.folder / 'images' / file}: listed in {split}.csv but missing; "
                    "unpack images.zip again"
                )
        return names

    def image_files(self, split: str) -> Iterator[Path]:
        """The JPEGs of the split."""
        for file in itertools.chain(*self.scanned(split).values()):
            yield self.folder / "images" / file

    def decode(self, item: str) -> np.ndarray:
        """The image (3, 84, 84) of a file of images/."""
        path = self.folder / "images" / item
        return colour_pixels(load_image(path), RAVI_SIDE, path)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a csv file with their line numbers, without the header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for line, row in enumerate(csv.reader(file), 1):
                if row and row[-1] != "label":
                    yield line, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{path}: expected a csv file (filename,label), it is missing or unreadable; fetch it "
            "from twitter-research/meta-learning-lstm"
        ) from error

"""mini-ImageNet as csv files and one folder of JPEGs (Ravi & Larochelle 2017).

``train.csv``, ``val.csv``, ``test.csv`` (header ``filename,label``, label = wnid) and ``images/``.
Form: twitter-research/meta-learning-lstm, data/miniImagenet.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.readers import Reader, compare_classes, in_order, load_image
from zoo.errors import UsageError

SIDE = 84
# The published images are larger than 84x84. Squashing is what the common caches do
# (renmengye/few-shot-ssl-public); Pillow's bilinear filter averages when it shrinks.
FILTER = Image.Resampling.BILINEAR


class RaviCsv(Reader):
    """Three csv files that list JPEGs of one folder."""

    form = "Ravi csv + jpg"
    needs = "train.csv, val.csv, test.csv and the folder images/ (from images.zip)"
    homes = ("miniimagenet", "mini-imagenet", "miniImagenet", "mini_imagenet")
    recipe = f"RGB, squashed to {SIDE}x{SIDE} where it is not, {FILTER.name}, 1"

    def __init__(self, folder: Path, lists: dict[str, list[str]], per_class: int) -> None:
        super().__init__(folder, lists, per_class)
        self._listed: dict[str, dict[str, list[str]]] = {}
        self._present: set[str] | None = None

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """At least two of the three csv files and images/, so that the missing one gets named."""
        names = ("train.csv", "val.csv", "test.csv", "images")
        return sum((folder / name).exists() for name in names) >= 2

    def files(self) -> list[Path]:
        """The csv files and the folder of images."""
        names = ("train.csv", "val.csv", "test.csv", "images")
        return [self.folder / name for name in names]

    def classes(self, split: str) -> list[str]:
        """Wnids, in the order of the class list; see `Reader.classes`."""
        if split not in self._listed:
            self._listed[split] = self._read(split)
        return self.lists[split]

    def images(self, split: str) -> Iterator[np.ndarray]:
        """Arrays (600, 3, 84, 84) RGB, in the order of the file names; see `Reader.images`."""
        names = self.classes(split)
        files = (file for name in names for file in sorted(self._listed[split][name]))
        decoded = in_order(self._decode, files)
        for name in names:
            yield np.stack([next(decoded) for _ in self._listed[split][name]])

    def _read(self, split: str) -> dict[str, list[str]]:
        """The csv file of a split, checked: file names by class."""
        path = self.folder / f"{split}.csv"
        present = self._images()
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
        compare_classes(path, listed, self.lists, split)
        for name, files in listed.items():
            if len(files) != self.per_class:
                raise UsageError(
                    f"{path}: class {name!r} has {len(files)} images, expected {self.per_class}; "
                    "fetch it again"
                )
        for file in seen - present:
            raise UsageError(
                f"{self.folder / 'images' / file}: listed in {path.name} but missing; "
                "unpack images.zip again"
            )
        return listed

    def _images(self) -> set[str]:
        if self._present is None:
            folder = self.folder / "images"
            if not folder.is_dir():
                raise UsageError(f"{folder}: expected the folder of JPEGs; unpack images.zip there")
            self._present = {path.name for path in folder.iterdir()}
        return self._present

    def _decode(self, file: str) -> np.ndarray:
        """One image, uint8 (3, 84, 84)."""
        path = self.folder / "images" / file
        image = load_image(path)
        if image.mode != "RGB":
            raise UsageError(
                f"{path}: expected a colour image (RGB), its mode is {image.mode!r}; unpack "
                "images.zip again"
            )
        if image.size != (SIDE, SIDE):
            image = image.resize((SIDE, SIDE), FILTER)
        return np.asarray(image).transpose(2, 0, 1)


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

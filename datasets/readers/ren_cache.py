"""Ren et al.'s caches (2018), also torchmeta's and learn2learn's, and CUB in the same layout.

``mini-imagenet-cache-{train,val,test}.pkl``: ``image_data`` uint8 (n, 84, 84, 3) RGB, and
``class_dict``, the rows of each wnid. Form: renmengye/few-shot-ssl-public,
fewshot/data/mini_imagenet.py. Until April 2018 its writer had val and test swapped.

``{train,trainval,val,test}_vinyals_aug90.pkl`` of Omniglot: ``images`` uint8 (n, 28, 28, 1), ink
255, ``labels`` and their names ``label_str``, ``Alphabet/characterNN_k``. Form: the same,
fewshot/data/omniglot.py.

Ren et al. shrank photographs and drawings with OpenCV, so their caches hold other pixels than the
forms whose images we shrink ourselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from zoo.datasets.readers.arrays import ArrayReader, as_text, entries, entry, short_repr
from zoo.datasets.readers.base import MINI_HOMES
from zoo.errors import UsageError

REN_FILE = "mini-imagenet-cache-{}.pkl"
CUB_FILE = "cub-cache-{}.pkl"
REN_OMNIGLOT_FILE = "{}_vinyals_aug90.pkl"
QUARTER_TURNS = ("rot090", "rot180", "rot270", "rot000")  # of the k in Omniglot's class names


class RenCache(ArrayReader):
    """Three pickles of arrays."""

    form = "Ren cache pickle"
    needs = f"{REN_FILE.format('train')}, -val.pkl (or -validation.pkl), -test.pkl"
    homes: ClassVar[tuple[str, ...]] = MINI_HOMES
    recipe = "RGB 84x84, 1"
    side = 84
    names: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": (REN_FILE.format("train"),),
        "val": (REN_FILE.format("val"), REN_FILE.format("validation")),
        "test": (REN_FILE.format("test"),),
    }

    def name_of(self, key: str) -> str:
        """The class that a key of ``class_dict`` names."""
        return key

    def scan(self, split: str) -> Mapping[str, Sequence[np.ndarray]]:
        """Rows by class; see `Reader.scan`."""
        path = self.where(split)
        content = entries(path, self.again)
        classes = entry(path, content, "class_dict", dict, self.again)
        pixels = self.pixels(path, content.get("image_data"))
        labels: list[str | None] = [None] * len(pixels)
        for key, rows in classes.items():
            name = self.name_of(as_text(key))
            for row in rows if isinstance(rows, list) else []:
                if not isinstance(row, int) or not 0 <= row < len(labels) or labels[row]:
                    raise UsageError(
                        f"{path}: class_dict gives {name!r} row {short_repr(row)}, which does not "
                        f"exist or is of another class; {self.again}"
                    )
                labels[row] = name
        names = {self.name_of(as_text(key)) for key in classes}
        return self.rows(path, pixels, labels, {name: name for name in names})


class CubCache(RenCache):
    """CUB-200-2011 in the layout of Ren et al.'s caches, as `convert` writes it.

    Nobody published it in pickles that others read, so there is no other form to follow.
    """

    form = "CUB cache pickle"
    needs = "cub-cache-{train,val,test}.pkl (from zoo convert)"
    homes = ("cub",)
    names: ClassVar[dict[str, tuple[str, ...]]] = {
        split: (CUB_FILE.format(split),) for split in ("train", "val", "test")
    }

    def name_of(self, key: str) -> str:
        """``001`` of ``001.Black_footed_Albatross``."""
        return key.partition(".")[0]


class RenOmniglot(ArrayReader):
    """Omniglot with its rotations as classes; the drawings are 28x28."""

    form = "Ren Omniglot pickle"
    needs = "{train,val,test}_vinyals_aug90.pkl"
    homes = ("omniglot",)
    recipe = "ink 255, 28x28, 1"
    side = 28
    channels = 1
    names: ClassVar = {
        split: (REN_OMNIGLOT_FILE.format(split),) for split in ("train", "trainval", "val", "test")
    }

    def __init__(self, folder: Path, lists: dict[str, list[str]], per_class: int | None) -> None:
        turns = sorted(QUARTER_TURNS)
        turned = {
            split: [f"{name}/{turn}" for name in names for turn in turns]
            for split, names in lists.items()
        }
        super().__init__(folder, turned, per_class)

    def where(self, split: str) -> Path:
        """The split's file; training and validation classes together are in one for trainval."""
        if split == "train" and "val" not in self.lists:
            return self.folder / REN_OMNIGLOT_FILE.format("trainval")
        return super().where(split)

    def images(self, split: str) -> Iterator[np.ndarray]:
        """Arrays (20, 1, 28, 28), ink 255, in the order of the file; see `Reader.images`."""
        for name in self.classes(split):
            yield np.stack([self.decode(row) for row in self.scanned(split)[name]])

    def scan(self, split: str) -> Mapping[str, Sequence[np.ndarray]]:
        """Rows by ``Alphabet/characterNN/rotDDD``; see `Reader.scan`."""
        path = self.where(split)
        content = entries(path, self.again)
        names: dict[int, str] = {}
        for label, text in enumerate(as_text(entry(path, content, "label_str", list, self.again))):
            character, _, turn = str(text).rpartition("_")
            if turn not in ("0", "1", "2", "3"):
                raise UsageError(
                    f"{path}: expected classes Alphabet/characterNN_0 to _3 in label_str, found "
                    f"{short_repr(text)}; {self.again}"
                )
            names[label] = f"{character}/{QUARTER_TURNS[int(turn)]}"
        return self.rows(path, content.get("images"), content.get("labels"), names)

"""tiered-ImageNet as its authors publish it (Ren et al. 2018), encoded or decoded.

``{train,val,test}_images_png.pkl``, a list of PNG files, or ``{split}_images.npz``, ``images``
uint8 (n, 84, 84, 3) in the order **blue, green, red**; with ``{split}_labels.pkl``. Form:
renmengye/few-shot-ssl-public, fewshot/data/tiered_imagenet.py; kjunelee/MetaOptNet keeps the npz.
The superclasses in the labels are corrupt in the old release and not read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.datasets.readers.arrays import ArrayReader, as_text, entries, short_repr
from zoo.datasets.readers.base import TIERED_HOMES, Reader, colour_pixels, load_image
from zoo.datasets.readers.mapped_npz import member
from zoo.datasets.readers.safe_pickle import unpickle
from zoo.datasets.splits import tiered_names
from zoo.errors import UsageError

TIERED_SIDE = 84


def read_labels(folder: Path, split: str, again: str) -> tuple[Any, Mapping[int, str]]:
    """Labels of a split's images, and the wnid of each label.

    Raises:
        UsageError: the file is damaged, or names a class that tiered-ImageNet does not have.
    """
    path = folder / f"{split}_labels.pkl"
    content = entries(path, again)
    labels, names = content.get("label_specific"), as_text(content.get("label_specific_str"))
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or not isinstance(names, list):
        hint = " (MetaOptNet's labels name no classes)" if "labels" in content else ""
        raise UsageError(
            f"{path}: expected label_specific and label_specific_str{hint}; take the "
            f"{split}_labels.pkl of tiered-ImageNet's authors"
        )
    wnids = tiered_names()
    for label, name in enumerate(names):
        if not isinstance(name, str) or name not in wnids:
            raise UsageError(f"{path}: {short_repr(name)} is no class of tiered-ImageNet; {again}")
        if name in names[:label]:
            raise UsageError(f"{path}: class {name!r} is named twice; {again}")
    return labels, {label: wnids[name] for label, name in enumerate(names)}


class Encoded(NamedTuple):
    """An encoded image inside a file."""

    data: np.ndarray  # its bytes
    name: str  # for messages


class TieredPng(Reader):
    """Pickled lists of PNG files."""

    form = "Ren png pickle"
    needs = "{train,val,test}_images_png.pkl and {train,val,test}_labels.pkl"
    homes = TIERED_HOMES
    recipe = "RGB 84x84, 1"

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Whether any of the files of images is there."""
        return any((folder / f"{split}_images_png.pkl").is_file() for split in lists)

    def files(self) -> list[Path]:
        """Two files for each split: images and labels."""
        parts = ("images_png", "labels")
        return [self.folder / f"{split}_{part}.pkl" for split in self.lists for part in parts]

    def where(self, split: str) -> Path:
        """The split's labels."""
        return self.folder / f"{split}_labels.pkl"

    def scan(self, split: str) -> Mapping[str, Sequence[Encoded]]:
        """PNG files by wnid; see `Reader.scan`."""
        path = self.folder / f"{split}_images_png.pkl"
        labels, names = read_labels(self.folder, split, self.again)
        images = unpickle(path)
        if not isinstance(images, list) or len(images) != len(labels):
            count = f"{len(images)} images" if isinstance(images, list) else "no list"
            raise UsageError(
                f"{path}: expected a list of {len(labels)} images, one a label, found {count}; "
                f"{self.again}"
            )
        groups: dict[str, list[Encoded]] = {name: [] for name in names.values()}
        for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            what = f"{path}, image {row}"
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
                raise UsageError(f"{what}: expected the bytes of a PNG file; {self.again}")
            if label not in names:
                raise UsageError(f"{what}: label {label} belongs to no class; {self.again}")
            groups[names[label]].append(Encoded(image, what))
        return groups

    def decode(self, item: Encoded) -> np.ndarray:
        """An image (3, 84, 84): a PNG file is RGB."""
        return colour_pixels(load_image(item.data.tobytes(), item.name), TIERED_SIDE, item.name)


class TieredNpz(ArrayReader):
    """Decoded images in plain arrays, their channels in the order blue, green, red."""

    form = "tiered npz (BGR)"
    needs = "{train,val,test}_images.npz and {train,val,test}_labels.pkl"
    homes = TIERED_HOMES
    recipe = "BGR turned round, 84x84, 1"
    side = TIERED_SIDE
    names = {split: (f"{split}_images.npz",) for split in ("train", "val", "test")}  # noqa: RUF012

    def files(self) -> list[Path]:
        """Two files for each split: images and labels."""
        return super().files() + [self.folder / f"{split}_labels.pkl" for split in self.lists]

    def scan(self, split: str) -> Mapping[str, Sequence[np.ndarray]]:
        """Rows by wnid; see `Reader.scan`."""
        labels, names = read_labels(self.folder, split, self.again)
        path = self.where(split)
        return self.rows(path, member(path, "images"), labels, names)

    def decode(self, item: np.ndarray) -> np.ndarray:
        """The image (3, 84, 84), red first."""
        return item[:, :, ::-1].transpose(2, 0, 1)

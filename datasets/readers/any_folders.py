"""Somebody's own images: a folder for each class, or such folders in train/, val/ and test/."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np

from zoo.datasets.readers.base import (
    FILTER,
    Reader,
    by_content,
    colour_pixels,
    in_order,
    load_image,
    readable,
)
from zoo.datasets.readers.own_listing import (
    DEEPEST,
    UNREADABLE,
    ImageFile,
    LeftOut,
    Listed,
    NoImagesError,
    classes_of,
    leave_images,
    list_folder,
    shown,
    split_of,
)
from zoo.datasets.readers.own_pixels import as_seen
from zoo.datasets.splits import Lists
from zoo.errors import UsageError

SHARES = {"train": 0.64, "val": 0.16, "test": 0.20}  # mini-ImageNet's
ENOUGH = 5  # classes of a split, where there are as many: tests are 5-way unless asked for
LEAST = 2  # images of a class: one to learn from and one to ask for
TOO_SMALL = "classes of a single image"
ALL_UNREADABLE = "classes without an image that can be read"
NEEDS = "a folder of images for each class, or train/, val/ and test/ with such folders"
ANEW = "folder[splits=anew] puts the images of each class together and splits the classes anew"

Splits = dict[str, dict[str, list[ImageFile]]]  # the images of each class of each split


class Layout:
    """What lies in a folder: the classes of each split, or of one that is called "all"."""

    def __init__(
        self, folder: Path, splits: Splits, places: Mapping[str, Path], remark: str = ""
    ) -> None:
        """Keep what was found.

        Args:
            folder: that holds the class folders, or those of the splits.
            splits: the images of each class.
            places: the folder of each split.
            remark: what a reader of a report must know.
        """
        self.folder, self.splits, self.places, self.remark = folder, splits, places, remark


def find_layout(folder: Path, left: LeftOut) -> Layout:
    """The class folders in a folder, or further down.

    Where they lie in several folders, such as ``birds/robin`` and ``fish/carp``, all of them are
    the classes.

    Raises:
        NoImagesError: there are none.
        UsageError: it is not clear what the classes are.
    """
    with readable(folder):
        found = _look(str(folder), left, DEEPEST)
    if not found:
        raise NoImagesError(f"{folder}: expected {NEEDS}; it has no folder of images")
    return found[0] if len(found) == 1 else _groups(folder, found)


def _groups(folder: Path, found: Sequence[Layout]) -> Layout:
    """Class folders that lie in several folders, all together.

    Raises:
        UsageError: the folders have splits, or are classes or splits themselves.
    """
    names = sorted(shown(layout.folder.name) for layout in found)
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    if any("all" not in layout.splits or split_of(layout.folder.name) for layout in found):
        raise UsageError(
            f"{folder}: its folders ({some}) hold class folders, and some are called as "
            "splits are; name one of them with --data, or have train, val and test beside each "
            "other and nothing else"
        )
    homes: dict[str, list[str]] = {}
    classes: dict[str, list[ImageFile]] = {}
    for layout in found:
        for name, images in layout.splits["all"].items():
            homes.setdefault(name, []).append(shown(os.path.relpath(layout.folder, folder)))
            classes[name] = images
    for name, groups in homes.items():
        if len(groups) > 1:
            raise UsageError(
                f"{folder}: its folders ({some}) hold folders of images, of which {name!r} is in "
                f"{len(groups)}, such as {groups[0]} and {groups[1]}; expected {NEEDS}: put all "
                "images of a class into one folder"
            )
    remark = f"class folders lie in {len(found)} folders ({some}): all of them are classes"
    return Layout(folder, {"all": classes}, {"all": folder}, remark)


def _look(path: str, left: LeftOut, levels: int) -> list[Layout]:
    """Where class folders lie, at or below a folder."""
    passed = LeftOut(left.root)
    top = list_folder(path, passed)
    if layout := _split_folders(top, passed) or _class_folders(top, passed):
        left.take(passed)
        return [layout]
    below: list[Layout] = []
    for folder in top.folders if levels else ():
        below += _look(folder, left, levels - 1)
    if below:
        leave_images(top, passed)
        left.take(passed)
    return below


def _class_folders(top: Listed, left: LeftOut) -> Layout | None:
    """The class folders in a folder, if it has any."""
    passed = LeftOut(left.root)
    classes = classes_of(top.folders, passed)
    if not classes:
        return None
    leave_images(top, passed)
    left.take(passed)
    return Layout(Path(top.path), {"all": _named(classes)}, {"all": Path(top.path)})


def _split_folders(top: Listed, left: LeftOut) -> Layout | None:
    """The class folders in those of the splits, if training and another one are there."""
    passed = LeftOut(left.root)
    splits: Splits = {}
    places: dict[str, Path] = {}
    for folder in top.folders:
        split = split_of(os.path.basename(folder))
        if split is None:
            passed.add("folders beside those of the splits", folder)
            continue
        inner = list_folder(folder, passed)
        if classes := classes_of(inner.folders, passed):
            leave_images(inner, passed)
            places.setdefault(split, Path(folder))
            for name, images in _named(classes).items():
                splits.setdefault(split, {}).setdefault(name, []).extend(images)
    if "train" not in splits or len(splits) < 2:
        return None
    leave_images(top, passed)
    left.take(passed)
    return Layout(Path(top.path), {s: splits[s] for s in SHARES if s in splits}, places)


def _named(folders: Sequence[Listed]) -> dict[str, list[ImageFile]]:
    found: dict[str, list[ImageFile]] = {}
    for folder in folders:
        found.setdefault(folder.name, []).extend(folder.images)
    return found


def find_classes(layout: Layout, seed: int, anew: bool, left: LeftOut) -> Splits:
    """The classes of each split: as the folders say, or by a rule that depends on names alone.

    The rule: names in the order of the BLAKE2b hash of "<seed> <name>"; of n, the first
    round(0.64 n) train and the last round(0.2 n) test, those between validate. Of fewer than 30,
    validation and test get five each, or a third each where that is less; of four and five half
    test and none validate; fewer can only be tested on. Where folders give classes to train and to
    test on but not two to validate on, the last fifth of the training classes in that order are
    taken for it, or five, or half where that is less; of fewer than four none are.

    A class with a single image is left out.

    Raises:
        UsageError: too few classes, no test, or classes that are in two splits.
    """
    splits = layout.splits
    if "all" not in splits and not anew:
        _check_apart(layout)
        splits = {split: _large_enough(classes, left) for split, classes in splits.items()}
        return _with_validation(layout, splits, seed)
    every: dict[str, list[ImageFile]] = {}
    for classes in splits.values():
        for name, images in classes.items():
            every.setdefault(name, []).extend(images)
    every = _large_enough(every, left)
    if len(every) < 2:
        raise UsageError(
            f"{layout.folder}: expected {NEEDS}, with at least {LEAST} images a class, found "
            f"{len(every)} such classes; tests need 2, training and tests 4"
        )
    return _parts(every, divide(list(every), seed))


def _with_validation(layout: Layout, splits: Splits, seed: int) -> Splits:
    """Splits as the folders give them, with classes to validate on where these give none.

    Raises:
        UsageError: too few classes to train or to test on.
    """
    for split in ("train", "test"):
        if (count := len(splits[split])) < 2:
            raise UsageError(
                f"{layout.folder}: {split} has {count} classes of at least {LEAST} images, "
                f"expected 2 or more; add classes, or {ANEW}"
            )
    if len(splits.get("val", ())) >= 2:
        return splits
    train = in_order_of_hash(splits["train"], seed)
    lists = {"train": sorted(train)}
    if len(train) >= 4:
        validate = max(round(len(train) / 5), min(ENOUGH, len(train) // 2))
        lists = {"train": sorted(train[:-validate]), "val": sorted(train[-validate:])}
    return {**_parts(splits["train"], lists), "test": splits["test"]}


def _check_apart(layout: Layout) -> None:
    """Refuse splits without a test, and such that share classes."""
    splits, folder = layout.splits, layout.folder
    if "test" not in splits:
        raise UsageError(
            f"{folder}: has training and validation folders and none for the test; call the "
            f"validation folder test (classes for validation are then taken from training), or "
            f"{ANEW}"
        )
    home: dict[str, str] = {}
    shared: dict[str, str] = {}
    for split, classes in splits.items():
        for name in classes:
            if home.setdefault(name, split) != split:
                shared.setdefault(name, f"{home[name]} and {split}")
    if shared:
        name, where = next(iter(shared.items()))
        raise UsageError(
            f"{folder}: {len(shared)} classes are in two splits, such as {name!r} in {where}; "
            f"few-shot tests need classes that training has not seen: {ANEW}"
        )


def _large_enough(
    classes: Mapping[str, list[ImageFile]], left: LeftOut
) -> dict[str, list[ImageFile]]:
    for images in classes.values():
        if len(images) < LEAST:
            left.add(TOO_SMALL, os.path.dirname(images[0].path))
    return {name: images for name, images in classes.items() if len(images) >= LEAST}


def _parts(classes: Mapping[str, list[ImageFile]], lists: Lists) -> Splits:
    return {split: {name: classes[name] for name in names} for split, names in lists.items()}


def in_order_of_hash(names: Sequence[str] | Mapping[str, object], seed: int) -> list[str]:
    """Names in an order that depends on nothing but each name and the seed."""
    return sorted(names, key=lambda name: blake2b(f"{seed} {name}".encode()).digest())


def divide(names: Sequence[str], seed: int) -> Lists:
    """Names divided by the rule of `find_classes`; a split that would be empty is not there."""
    names, count = in_order_of_hash(names, seed), len(names)
    if count < 4:
        return {"test": names}
    least = min(ENOUGH, count // 3)
    if least < 2:
        return {"train": names[: count - count // 2], "test": names[count - count // 2 :]}
    test = max(round(SHARES["test"] * count), least)
    train = min(round(SHARES["train"] * count), count - test - least)
    return {"train": names[:train], "val": names[train:-test], "test": names[-test:]}


class AnyFolders(Reader):
    """Images of any size and mode, as viewers show them, squashed to one size."""

    form = "any folder"
    needs = NEEDS
    homes = ()
    again = "mend it, or take it out of the folder"

    def __init__(self, folder: Path, size: int, seed: int, anew: bool) -> None:
        """Look at every file's name, size and time of change, and at no pixel.

        Args:
            folder: holds the class folders, or those of the splits; or one that does.
            size: of the images, a side.
            seed: of the rule that splits classes.
            anew: whether classes are split by it where folders of splits are there.

        Raises:
            UsageError: it holds no such folders, or splits that cannot be used.
        """
        left = LeftOut(folder)
        layout = find_layout(folder, left)
        self.splits = find_classes(layout, seed, anew, left)
        self.places = layout.places
        lists = {split: list(classes) for split, classes in self.splits.items()}
        super().__init__(layout.folder, lists, None)
        self.left_out, self.remark = left.text(), layout.remark
        self.side = size
        self.recipe = f"as seen, RGB, squashed to {size}x{size} where it is not, {FILTER.name}, 2"

    @classmethod
    def is_in(cls, folder: Path, lists: Lists) -> bool:
        """Whether there is such a folder: what it holds is looked at when it is read."""
        return folder.is_dir()

    def files(self) -> list[Path]:
        """The class folders."""
        classes = [images for split in self.splits.values() for images in split.values()]
        return [*{Path(image.path).parent: 0 for images in classes for image in images}]

    def where(self, split: str) -> Path:
        """The folder of the split; without one, that of all classes."""
        return self.places.get(split, self.folder)

    def scan(self, split: str) -> Mapping[str, Sequence[Path]]:
        """Image files by class; see `Reader.scan`."""
        return {
            name: [Path(image.path) for image in images]
            for name, images in self.splits[split].items()
        }

    def image_files(self, split: str) -> list[Path]:
        """All of them."""
        return [path for paths in self.found(split).values() for path in paths]

    def images(self, split: str) -> Iterator[np.ndarray]:
        """As `Reader.images`, without the images that cannot be read: a line says which.

        Raises:
            UsageError: no class is left.
        """
        groups = [self.found(split)[name] for name in self.classes(split)]
        decoded = in_order(self.decoded_or_none, (path for group in groups for path in group))
        left, usable = LeftOut(self.folder), 0
        for group in groups:
            images = {path: next(decoded) for path in group}
            for path, image in images.items():
                if image is None:
                    left.add(UNREADABLE, str(path))
            pixels = [image for image in images.values() if image is not None]
            if len(pixels) >= LEAST:
                usable += 1
                yield by_content(np.stack(pixels))
            else:
                left.add(TOO_SMALL if pixels else ALL_UNREADABLE, str(group[0].parent))
                yield np.empty((0, 3, self.side, self.side), np.uint8)
        self.unreadable = left.text()
        if not usable:
            raise UsageError(
                f"{self.where(split)}: no class of {split} has {LEAST} images that can be read; "
                f"{self.unreadable}; mend them"
            )

    def decoded_or_none(self, item: Path) -> np.ndarray | None:
        """`decode`, and None where that is refused."""
        try:
            return self.decode(item)
        except UsageError:
            return None

    def decode(self, item: Path) -> np.ndarray:
        """The image (3, side, side) of a file, as viewers show it."""
        name = shown(str(item))
        return colour_pixels(as_seen(load_image(item, name, self.again)), self.side, name)

    def fingerprint(self) -> str:
        """A quick fingerprint: names, sizes and times of change of all images."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = blake2b(json.dumps([self.form, self.recipe]).encode(), digest_size=16)
        start = len(str(self.folder))
        for split, classes in self.splits.items():
            for name, images in classes.items():
                states = "\n".join(f"{i.path[start:]} {i.size} {i.changed_ns}" for i in images)
                text = f"{split}\n{name}\n{states}\n"
                digest.update(text.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

"""Somebody's own images: a folder for each class, such folders in train/, val/ and test/, a list.

Lists of images are read by `image_lists`, parquet files with images by `parquet_images`.
"""

import itertools
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
from zoo.datasets.readers.image_lists import (
    META_ALBUM,
    ONE_CSV,
    find_list,
    locate,
    read_list,
    where_to_put,
)
from zoo.datasets.readers.own_listing import (
    DEEPEST,
    ImageFile,
    LeftOut,
    Listed,
    NoImagesError,
    classes_of,
    leave_images,
    list_folder,
    shown,
    split_of,
    why_unread,
)
from zoo.datasets.readers.own_pixels import as_seen
from zoo.datasets.readers.parquet_images import FORM as PARQUET
from zoo.datasets.readers.parquet_images import ParquetBytes, list_rows, parquet_files
from zoo.datasets.splits import Lists
from zoo.errors import UsageError

SHARES = {"train": 0.64, "val": 0.16, "test": 0.20}  # as in mini-ImageNet
ENOUGH = 5  # classes that a split gets, if there are so many: tests are 5-way by default
LEAST = 2  # images that a class needs: one to learn from and one to classify
TOO_SMALL = "classes of a single image"
ALL_UNREADABLE = "classes without an image that can be read"
MISSING = "listed images that are missing"
ANY_FOLDER = "any folder"
NEEDS = "a folder a class, in train/, val/, test/ or not; or a list of images; or parquet files"
ANEW = "folder[splits=anew] puts the images of each class together and splits the classes anew"

Splits = dict[str, dict[str, list[ImageFile]]]  # the images of each class of each split


class Layout:
    """The classes that a folder holds, by split; those of no split are in a split called "all"."""

    def __init__(
        self,
        folder: Path,
        splits: Splits,
        places: Mapping[str, Path],
        remark: str = "",
        form: str = ANY_FOLDER,
    ) -> None:
        """All arguments become attributes.

        Args:
            folder: that holds the class folders, or the folders of the splits.
            splits: the images of each class of each split.
            places: the folder of each split, or the file that lists its images.
            remark: one line about how the folders were understood, if that is not obvious.
            form: how the images lie.
        """
        self.folder, self.splits, self.places = folder, splits, places
        self.remark, self.form = remark, form


def find_layout(folder: Path, left: LeftOut) -> Layout:
    """The classes that a list in a folder names, or the class folders in it or in folders below it.

    Where there is neither, parquet files with images. If class folders lie in several folders, such
    as ``birds/robin`` and ``fish/carp``, all of them together are the classes.

    Args:
        folder: to look in.
        left: gets the files and folders that are not used.

    Raises:
        NoImagesError: there is no folder of images.
        UsageError: it is not clear which folders are the classes.
    """
    with readable(folder):
        of_list = _listed(folder, left)
        if of_list and any(of_list.splits.values()):
            return of_list
        layouts = _layouts_below(str(folder), left, DEEPEST)
        if of_list and not (layouts and of_list.form == ONE_CSV):
            (file, *_) = of_list.places.values()
            raise UsageError(
                f"{file}: {of_list.form}, and none of its images is there; {where_to_put(folder)}"
            )
        files = {} if layouts else parquet_files(folder)
        if files:
            splits = list_rows(files, left)
            places = {split: paths[0] for split, paths in files.items()}
            return Layout(folder, in_usual_order(splits), places, form=PARQUET)
    if not layouts:
        raise NoImagesError(f"{folder}: expected {NEEDS}; it has no folder of images")
    return layouts[0] if len(layouts) == 1 else _joined(folder, layouts)


def _listed(folder: Path, left: LeftOut) -> Layout | None:
    """The layout of a list of images in a folder; None if there is no list.

    Listed images that are missing are left out. The layout is empty if all of them are.

    Raises:
        UsageError: the list is damaged, or has some images with a split and some without.
    """
    found = find_list(folder)
    if found is None:
        return None
    located = locate(folder, found, read_list(found))
    if "all" in located.splits and len(located.splits) > 1:
        (file, *_) = found.files.values()
        raise UsageError(f"{file}: has images with a split and some without; give each a split")
    splits = {
        split: {name: images for name, images in classes.items() if images}
        for split, classes in located.splits.items()
    }
    if any(splits.values()):
        for path in itertools.chain(*located.missing.values()):
            left.add(MISSING, os.path.join(folder, path.lstrip("/")))
    files = [path.name for path in found.files.values()]
    remark = f"classes are read from {', '.join(files)}"
    if found.form == META_ALBUM:
        remark += ", their super-categories are not used"
    return Layout(folder, in_usual_order(splits), found.files, remark, found.form)


def in_usual_order(splits: Splits) -> Splits:
    """The splits in the order train, val, test, with their classes in the order of their names."""
    order = [split for split in (*SHARES, "all") if split in splits]
    return {split: dict(sorted(splits[split].items())) for split in order}


def _joined(folder: Path, layouts: Sequence[Layout]) -> Layout:
    """One layout with the classes of several folders.

    Raises:
        UsageError: one of the folders has splits or is named as a split, or two hold a class of the
            same name.
    """
    names = sorted(shown(layout.folder.name) for layout in layouts)
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    if any("all" not in layout.splits or split_of(layout.folder.name) for layout in layouts):
        raise UsageError(
            f"{folder}: its folders ({some}) hold class folders, and some have the "
            "name of a split; name one of them with --data, or put train, val and test beside "
            "each other, and nothing else"
        )
    homes: dict[str, list[str]] = {}
    classes: dict[str, list[ImageFile]] = {}
    for layout in layouts:
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
    remark = f"class folders lie in {len(layouts)} folders ({some}): all of them are classes"
    return Layout(folder, {"all": classes}, {"all": folder}, remark)


def _layouts_below(path: str, left: LeftOut, levels: int) -> list[Layout]:
    """The layout of a folder; if it has no class folders, those of the folders in it.

    Args:
        path: of the folder.
        left: gets what is not used.
        levels: how many levels of folders below it are looked into.
    """
    left_here = LeftOut(left.root)
    top = list_folder(path, left_here)
    if layout := _split_folders(top, left_here) or _class_folders(top, left_here):
        left.take(left_here)
        return [layout]
    below: list[Layout] = []
    if levels:
        for folder in top.folders:
            below += _layouts_below(folder, left, levels - 1)
    if below:
        leave_images(top, left_here)
        left.take(left_here)
    return below


def _class_folders(top: Listed, left: LeftOut) -> Layout | None:
    """The layout of a folder that has class folders; None if it has none."""
    left_here = LeftOut(left.root)
    classes = classes_of(top.folders, left_here)
    if not classes:
        return None
    leave_images(top, left_here)
    left.take(left_here)
    return Layout(Path(top.path), {"all": _images_by_class(classes)}, {"all": Path(top.path)})


def _split_folders(top: Listed, left: LeftOut) -> Layout | None:
    """The layout of a folder with folders for training and for another split; else None."""
    left_here = LeftOut(left.root)
    splits: Splits = {}
    places: dict[str, Path] = {}
    for folder in top.folders:
        split = split_of(os.path.basename(folder))
        if split is None:
            left_here.add("folders beside those of the splits", folder)
            continue
        inner = list_folder(folder, left_here)
        if classes := classes_of(inner.folders, left_here):
            leave_images(inner, left_here)
            places.setdefault(split, Path(folder))
            for name, images in _images_by_class(classes).items():
                splits.setdefault(split, {}).setdefault(name, []).extend(images)
    if "train" not in splits or len(splits) < 2:
        return None
    leave_images(top, left_here)
    left.take(left_here)
    splits = {split: splits[split] for split in SHARES if split in splits}
    return Layout(Path(top.path), splits, places)


def _images_by_class(folders: Sequence[Listed]) -> dict[str, list[ImageFile]]:
    images: dict[str, list[ImageFile]] = {}
    for folder in folders:
        images.setdefault(folder.name, []).extend(folder.images)
    return images


def find_classes(layout: Layout, seed: int, anew: bool, left: LeftOut) -> Splits:
    """The classes of each split: as the folders say, or by a rule that depends on names alone.

    The rule puts the n names into the order of the BLAKE2b hash of "<seed> <name>". The first
    round(0.64 n) are for training, the last round(0.2 n) for the test, those between for
    validation. If n < 30, validation and test get five classes each, or a third of n each if that
    is less. If n is 4 or 5, half are for the test and none for validation. If n < 4, all are for
    the test.

    If there are folders for training and test with fewer than two classes for validation, then
    validation gets training classes, the last in that order: a fifth of them, but at least five, or
    half if that is less; none if there are fewer than four.

    A class with a single image is left out.

    Args:
        layout: what lies in the folder.
        seed: of the rule.
        anew: use the rule even if there are folders of splits.
        left: gets the classes that are left out.

    Raises:
        UsageError: there are too few classes, none to test on, or a class is in two splits.
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
    """The splits of the folders; validation gets classes of training if it has fewer than two.

    Raises:
        UsageError: there are too few classes to train or to test on.
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
    """Check that there is a test split and that no class is in two splits."""
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
    """Names of classes, divided by the rule of `find_classes`, without splits that are empty."""
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
    """Images of any size and mode, converted as viewers show them and squashed to one size."""

    form = ANY_FOLDER
    needs = NEEDS
    homes = ()
    again = "mend it, or take it out of the folder"

    def __init__(self, folder: Path, size: int, seed: int, anew: bool) -> None:
        """List the files with their sizes and times of change; no image is opened.

        Args:
            folder: that has the class folders, or folders of splits with them, in it or below it.
            size: height and width of the images that are made, in pixels.
            seed: of the rule that divides classes into splits.
            anew: use the rule even if there are folders of splits.

        Raises:
            UsageError: there are no such folders, or the splits cannot be used.
        """
        left = LeftOut(folder)
        layout = find_layout(folder, left)
        self.splits = find_classes(layout, seed, anew, left)
        self.places = layout.places
        lists = {split: list(classes) for split, classes in self.splits.items()}
        super().__init__(layout.folder, lists, None)
        self.left_out, self.remark = left.text(), layout.remark
        self.form = layout.form  # type: ignore[misc]
        self._bytes = ParquetBytes()
        self.side = size
        self.recipe = f"as seen, RGB, squashed to {size}x{size} where it is not, {FILTER.name}, 2"

    @classmethod
    def is_in(cls, folder: Path, lists: Lists) -> bool:
        """Whether the folder exists; what is in it is checked when it is read."""
        return folder.is_dir()

    def files(self) -> list[Path]:
        """The class folders."""
        classes = [images for split in self.splits.values() for images in split.values()]
        return list(dict.fromkeys(Path(image.path).parent for each in classes for image in each))

    def where(self, split: str) -> Path:
        """The folder of the split; if there is none, the folder of all classes."""
        return self.places.get(split, self.folder)

    def scan(self, split: str) -> Mapping[str, Sequence[ImageFile]]:
        """Image files by class; see `Reader.scan`."""
        return self.splits[split]

    def image_files(self, split: str) -> list[Path]:
        """All images of the split that are files."""
        images = (image for images in self.scanned(split).values() for image in images)
        return [Path(image.path) for image in images if image.row is None]

    def images(self, split: str) -> Iterator[np.ndarray]:
        """As `Reader.images`, but images that cannot be read are left out.

        When the last class has been taken, the line `unreadable` names them.

        Raises:
            UsageError: no class has `LEAST` images that can be read.
        """
        groups = [self.scanned(split)[name] for name in self.classes(split)]
        decoded = in_order(self.decoded_or_none, (item for group in groups for item in group))
        left, usable = LeftOut(self.folder), 0
        for group in groups:
            images = {item: next(decoded) for item in group}
            for item, image in images.items():
                if image is None:
                    left.add(why_unread(Path(item.path)), item.label)
            pixels = [image for image in images.values() if image is not None]
            if len(pixels) >= LEAST:
                usable += 1
                yield by_content(np.stack(pixels))
            else:
                left.add(TOO_SMALL if pixels else ALL_UNREADABLE, self._place(group[0]))
                yield np.empty((0, 3, self.side, self.side), np.uint8)
        self._bytes.forget()
        self.unreadable = left.text()
        if not usable:
            raise UsageError(
                f"{self.where(split)}: no class of {split} has {LEAST} images that can be read; "
                f"{self.unreadable}; mend them"
            )

    def _place(self, image: ImageFile) -> str:
        """The folder of an image's class, or the file that holds it."""
        return os.path.dirname(image.path) if image.row is None else image.path

    def decoded_or_none(self, item: ImageFile) -> np.ndarray | None:
        """The image of `decode`, or None if it cannot be read."""
        try:
            return self.decode(item)
        except UsageError:
            return None

    def decode(self, item: ImageFile) -> np.ndarray:
        """The image (3, side, side) of a file, as viewers show it."""
        name = shown(item.label)
        source = Path(item.path) if item.row is None else self._bytes.of(item)
        return colour_pixels(as_seen(load_image(source, name, self.again)), self.side, name)

    def fingerprint(self) -> str:
        """A hash of the names, sizes, times of change and permissions of all images."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = blake2b(json.dumps([self.form, self.recipe]).encode(), digest_size=16)
        start = len(str(self.folder))
        for split, classes in self.splits.items():
            for name, images in classes.items():
                states = "\n".join(
                    f"{i.label[start:]} {i.size} {i.changed_ns}{'' if i.readable else ' forbidden'}"
                    for i in images
                )
                text = f"{split}\n{name}\n{states}\n"
                digest.update(text.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

"""What lies in a folder of somebody's own images: class folders, files, and what is passed over.

Every folder is listed once, with the size and time of change of each image, so that an image that
was edited in place is noticed.
"""

import os
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from PIL import features

from zoo.datasets.readers.base import image_size
from zoo.datasets.readers.class_folders import IMAGE_ENDINGS
from zoo.errors import UsageError

OWN_ENDINGS = {*IMAGE_ENDINGS, ".jfif", ".jpe", *([".avif"] if features.check("avif") else [])}
OUR_OWN = "zoo-store"  # where stores lay before
CLUTTER = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", OUR_OWN}
DEEPEST = 2  # levels between the folder that is named and the class folders
NAMED = 3  # things named of each kind that is left out
UNREADABLE = "images that cannot be read"
NAMED_TO_MEND = 10  # of those

# How the folders of splits are called, in small letters and without signs between the words.
SPLIT_NAMES = {
    "train": ("train", "training", "base", "metatrain", "trainset", "trainingset"),
    "val": ("val", "valid", "validation", "dev", "development", "metaval", "valset"),
    "test": ("test", "testing", "novel", "metatest", "testset", "evaluation", "eval"),
}


class NoImagesError(UsageError):
    """There is no folder of images."""


class ImageFile(NamedTuple):
    """An image file as it was listed."""

    path: str
    size: int
    changed_ns: int


class Listed(NamedTuple):
    """A folder as it was listed."""

    path: str
    images: list[ImageFile]
    folders: list[str]  # paths of the folders in it

    @property
    def name(self) -> str:
        """Its name, as `shown` writes it."""
        return shown(os.path.basename(self.path))


class LeftOut:
    """What is passed over, by kind."""

    def __init__(self, root: Path) -> None:
        """Name things by their path below `root`."""
        self.root = root
        self.things: dict[str, list[str]] = {}

    def add(self, kind: str, path: str) -> None:
        """One more of a kind."""
        self.things.setdefault(kind, []).append(path)

    def take(self, other: "LeftOut") -> None:
        """All of another one."""
        for kind, paths in other.things.items():
            self.things.setdefault(kind, []).extend(paths)

    def text(self) -> str:
        """How many of each kind, and a few of them, in one line; empty where there is none."""
        parts = []
        for kind, paths in self.things.items():
            most = NAMED_TO_MEND if kind == UNREADABLE else NAMED
            some = [shown(os.path.relpath(path, self.root)) for path in sorted(paths)[:most]]
            more = f" and {len(paths) - most:,} more" if len(paths) > most else ""
            parts.append(f"{kind}, {len(paths):,} ({', '.join(some)}{more})")
        return f"left out: {'; '.join(parts)}" if parts else ""


def shown(name: str) -> str:
    r"""A name as it can be printed: bytes that are not UTF-8 are written ``\xf6``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def list_folder(path: str, left: LeftOut) -> Listed:
    """The images and folders in a folder, in the order of their names; hidden ones are no part."""
    images, folders = [], []
    with os.scandir(path) as found:
        entries = sorted(found, key=attrgetter("name"))
    for entry in entries:  # of which there may be 100,000: `DirEntry` knows folders from files
        name = entry.name
        if name[0] == "." or name.lower() in CLUTTER:
            if name != OUR_OWN:
                left.add("hidden files and those of systems", entry.path)
        elif entry.is_dir():
            folders.append(entry.path)
        elif name[name.rfind(".") :].lower() in OWN_ENDINGS or is_image_without_ending(entry):
            try:
                stat = entry.stat()
            except OSError:
                left.add("links to files that are gone", entry.path)
            else:
                images.append(ImageFile(entry.path, stat.st_size, stat.st_mtime_ns))
        else:
            left.add("files that are no images", entry.path)
    return Listed(path, images, folders)


def is_image_without_ending(entry: os.DirEntry[str]) -> bool:
    """Whether a file whose name has no ending is an image by its first bytes."""
    return "." not in entry.name and image_size(Path(entry.path)) != (0, 0)


def split_of(name: str) -> str | None:
    """The split that a folder of this name holds, if any."""
    plain = "".join(sign for sign in name.lower() if sign.isalnum())
    return next((split for split, names in SPLIT_NAMES.items() if plain in names), None)


def classes_of(folders: Iterable[str], left: LeftOut) -> list[Listed]:
    """Those of these folders that hold the images of a class.

    Not one that has several folders of images with more images than itself: they are the classes.
    """
    classes = []
    for path in folders:
        passed = LeftOut(left.root)
        listed = list_folder(path, passed)
        inner = [len(list_folder(each, LeftOut(left.root)).images) for each in listed.folders]
        classes_inside = len(inner) - inner.count(0) > 1 and sum(inner) > len(listed.images)
        if listed.images and not classes_inside:
            classes.append(listed)
            left.take(passed)
            leave_inner_folders(listed, left)
        elif any(inner):
            left.add("folders whose images lie one folder deeper than the others'", path)
        else:
            left.add("folders without images", path)
    return classes


def leave_images(listed: Listed, left: LeftOut) -> None:
    """Leave out the images that lie in a folder of class folders."""
    for image in listed.images:
        left.add("images beside the class folders", image.path)


def leave_inner_folders(listed: Listed, left: LeftOut) -> None:
    """Leave out what lies in the folders of a class's folder."""
    for inner in listed.folders:
        images = list_folder(inner, LeftOut(left.root)).images
        for image in images:
            left.add("images in a folder inside a class's folder", image.path)
        if not images:
            left.add("folders without images", inner)

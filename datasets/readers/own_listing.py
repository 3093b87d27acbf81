"""What is in a folder of somebody's own images: class folders, images, and what is not used.

A listing has the size and time of change of each image, so that an image that was edited in place
is noticed.
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
STORE_FOLDER = "zoo-store"  # where image stores lay before; not reported as left out
CLUTTER = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", STORE_FOLDER}
DEEPEST = 2  # most levels of folders between the folder of the user and the class folders
NAMED = 3  # how many of the files or folders left out for one reason are named
DEEPER = "folders whose images lie deeper than the others'"
UNREADABLE = "images that cannot be read"
FORBIDDEN = "images without permission to read them"
NAMED_TO_MEND = 10  # how many of the images are named that cannot or may not be read
FOR_ALL = 0o444  # the mode of a file that anybody may read

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
    readable: bool  # whether this user may read it: a permission that returns changes no file
    row: int | None = None  # of a parquet file, if the image is in one

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.path if self.row is None else f"{self.path}, row {self.row}"


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
    """Files and folders that are not used, by the reason why."""

    def __init__(self, root: Path) -> None:
        """``root`` is the folder below which they lie; messages give paths from there."""
        self.root = root
        self.paths_by_reason: dict[str, list[str]] = {}

    def add(self, reason: str, path: str) -> None:
        """Note a file or folder; the reason is a plural, such as "files that are no images"."""
        self.paths_by_reason.setdefault(reason, []).append(path)

    def take(self, other: "LeftOut") -> None:
        """Note all that another one has."""
        for reason, paths in other.paths_by_reason.items():
            self.paths_by_reason.setdefault(reason, []).extend(paths)

    def text(self) -> str:
        """One line: each reason with the number of files and a few of them; empty if none."""
        parts = []
        for reason, paths in self.paths_by_reason.items():
            most = NAMED_TO_MEND if reason in (UNREADABLE, FORBIDDEN) else NAMED
            some = [shown(os.path.relpath(path, self.root)) for path in sorted(paths)[:most]]
            more = f" and {len(paths) - most:,} more" if len(paths) > most else ""
            parts.append(f"{reason}, {len(paths):,} ({', '.join(some)}{more})")
        return f"left out: {'; '.join(parts)}" if parts else ""


def shown(name: str) -> str:
    r"""A name as it can be printed: bytes that are not UTF-8 are written ``\xf6``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def list_folder(path: str, left: LeftOut) -> Listed:
    """The images and folders in a folder, in the order of their names, without hidden ones.

    Args:
        path: of the folder.
        left: gets what else is in the folder.
    """
    images, folders = [], []
    with os.scandir(path) as unordered:
        entries = sorted(unordered, key=attrgetter("name"))
    # There may be 100,000 entries: only images are asked for more than `DirEntry` knows by itself.
    for entry in entries:
        name = entry.name
        if name[0] == "." or name.lower() in CLUTTER:
            if name != STORE_FOLDER:
                left.add("hidden files and those of systems", entry.path)
        elif entry.is_dir():
            folders.append(entry.path)
        elif name[name.rfind(".") :].lower() in OWN_ENDINGS or is_image_without_ending(entry):
            try:
                stat = entry.stat()
            except OSError as error:
                if isinstance(error, PermissionError):  # of the folder, or of where a link leads
                    if not entry.is_symlink():
                        raise
                    left.add(FORBIDDEN, entry.path)
                else:
                    left.add("links to files that are gone", entry.path)
            else:
                may = stat.st_mode & FOR_ALL == FOR_ALL or os.access(entry.path, os.R_OK)
                images.append(ImageFile(entry.path, stat.st_size, stat.st_mtime_ns, may))
        else:
            left.add("files that are no images", entry.path)
    return Listed(path, images, folders)


def why_unread(path: Path) -> str:
    """The reason to leave out an image that was listed and could not be decoded."""
    return UNREADABLE if os.access(path, os.R_OK) else FORBIDDEN


def is_image_without_ending(entry: os.DirEntry[str]) -> bool:
    """Whether the name of a file has no ending and the file begins as an image does."""
    return "." not in entry.name and image_size(Path(entry.path)) != (0, 0)


def split_of(name: str) -> str | None:
    """The split that a folder of this name is for, such as "train" of ``Training-Set``, or None."""
    letters = "".join(sign for sign in name.lower() if sign.isalnum())
    return next((split for split, names in SPLIT_NAMES.items() if letters in names), None)


def folders_of_splits(folder: Path) -> dict[str, Path]:
    """The folders in a folder that are called as splits are."""
    places = sorted(path for path in folder.iterdir() if path.is_dir())
    return {split: path for path in places if (split := split_of(path.name))}


def classes_of(folders: Iterable[str], left: LeftOut) -> list[Listed]:
    """Those of some folders that hold the images of a class.

    A folder with images is no class if it has several folders of images in it which together have
    more images than itself: then these are the classes.

    Args:
        folders: paths of them.
        left: gets what is not used of them.
    """
    classes = []
    for path in folders:
        left_inside = LeftOut(left.root)
        listed = list_folder(path, left_inside)
        inner = [len(list_folder(each, LeftOut(left.root)).images) for each in listed.folders]
        classes_inside = len(inner) - inner.count(0) > 1 and sum(inner) > len(listed.images)
        if listed.images and not classes_inside:
            classes.append(listed)
            left.take(left_inside)
            leave_inner_folders(listed, left)
        elif any(inner) or images_below(listed.folders):
            left.add(DEEPER, path)
        else:
            left.add("folders without images", path)
    return classes


def images_below(folders: Iterable[str]) -> list[ImageFile]:
    """The images in some folders and in all folders inside them, links to folders left out."""
    images = []
    for path in folders:
        listed = list_folder(path, LeftOut(Path(path)))
        images += listed.images
        images += images_below(each for each in listed.folders if not os.path.islink(each))
    return images


def leave_images(listed: Listed, left: LeftOut) -> None:
    """Leave out the images that lie in a folder of class folders."""
    for image in listed.images:
        left.add("images beside the class folders", image.path)


def leave_inner_folders(listed: Listed, left: LeftOut) -> None:
    """Leave out what lies in the folders of a class's folder."""
    for inner in listed.folders:
        images = images_below([inner])
        for image in images:
            left.add("images in a folder inside a class's folder", image.path)
        if not images:
            left.add("folders without images", inner)

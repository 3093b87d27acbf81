"""A user's own photos for a trained learner: a folder for each class, and queries.

They are listed and read as by the benchmark `folder` (docs/own-images.md).
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from zoo.datasets.readers.base import FILTER, load_image, readable
from zoo.datasets.readers.own_listing import (
    LeftOut,
    Listed,
    classes_of,
    leave_images,
    list_folder,
    shown,
    why_unread,
)
from zoo.datasets.readers.own_pixels import as_seen
from zoo.errors import UsageError


class Photos(NamedTuple):
    """Photos in the size and colours that a network takes, and their files."""

    files: list[Path]
    pixels: np.ndarray  # (n, C, H, W) uint8
    labels: list[str] | None  # the class of each; None if they are not known
    left_out: str  # the files that were left out, in a line; empty if there are none

    def names_below(self, folder: Path) -> list[str]:
        """The names of the files relative to a folder, as they can be printed."""
        return [shown(path.relative_to(folder).as_posix()) for path in self.files]


def support_photos(folder: Path, image: Sequence[int]) -> Photos:
    """The photos of a folder that has a folder for each class.

    Args:
        folder: with the class folders.
        image: (C, H, W) that the photos are resized to.

    Raises:
        UsageError: there are fewer than two classes, or none of a class's images can be read.
    """
    left = LeftOut(folder)
    by_class, flat = listed(folder, left, "--support")
    leave_images(flat, left)
    if len(by_class) < 2:
        found = [", ".join(by_class) or "none"]
        if left_out := left.text():
            found.append(left_out)
        raise UsageError(
            f"--support {folder}: expected a folder of images for each class, at least two; found "
            f"{'; '.join(found)}{folder_to_name(flat, '--support', 2)}"
        )
    photos = read_photos(labelled(by_class), image, left)
    missing = [name for name in by_class if name not in (photos.labels or ())]
    if missing:
        raise UsageError(
            f"--support {folder}: class {missing[0]!r} has no image that can be read; remove its "
            "folder"
        )
    return photos


def query_photos(folder: Path, image: Sequence[int]) -> Photos:
    """The photos of a flat folder, or, with labels, of one that has a folder for each class.

    Args:
        folder: with photos or class folders.
        image: (C, H, W) that the photos are resized to.

    Raises:
        UsageError: there is no image, or none that can be read.
    """
    left = LeftOut(folder)
    by_class, flat = listed(folder, left, "--query")
    in_folders = labelled(by_class)
    if flat.images and in_folders:
        raise UsageError(
            f"--query {folder}: has images and also folders of images ({', '.join(by_class)}); "
            "expected one or the other"
        )
    unknown: list[tuple[Path, str | None]] = [(Path(image.path), None) for image in flat.images]
    photos = read_photos(in_folders or unknown, image, left)
    if not photos.files:
        raise UsageError(
            f"--query {folder}: no image in it; {photos.left_out or 'it is empty'}"
            f"{folder_to_name(flat, '--query', 1)}"
        )
    return photos


def folder_to_name(top: Listed, flag: str, least: int) -> str:
    """The end of a message: the folder to name instead, one level below; "" if there is none.

    Args:
        top: the folder that was named.
        flag: that named it.
        least: how many class folders the other one has at least.
    """
    for path in top.folders:
        inside = list_folder(path, LeftOut(Path(path)))
        if len(classes_of(inside.folders, LeftOut(Path(path)))) >= least:
            return f"; the class folders lie one level below: name {flag} {shown(path)}"
    return ""


def listed(folder: Path, left: LeftOut, flag: str) -> tuple[dict[str, list[Path]], Listed]:
    """The image files of each class folder by its name, and the folder itself as it was listed.

    Args:
        folder: to list.
        left: takes note of the files that are left out.
        flag: that named the folder, for messages.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{flag} {folder}: there is no such folder")
    with readable(folder, flag):
        root = list_folder(os.fspath(folder), left)
        classes = classes_of(root.folders, left)
    return {each.name: [Path(image.path) for image in each.images] for each in classes}, root


def labelled(by_class: Mapping[str, Sequence[Path]]) -> list[tuple[Path, str | None]]:
    """Every file with its class, one class after the other."""
    return [(path, name) for name, paths in by_class.items() for path in paths]


def read_photos(
    files: Sequence[tuple[Path, str | None]], image: Sequence[int], left: LeftOut
) -> Photos:
    """The photos that can be read, as the network takes them; they are read on all cores.

    Args:
        files: each with its class, or None if that is not known.
        image: (C, H, W) that the photos are resized to.
        left: takes note of those that cannot be read.
    """

    def read(path: Path) -> np.ndarray | None:
        try:
            return as_network_takes(load_image(path), image)
        except UsageError:
            return None

    kept, pixels = [], []
    with ThreadPoolExecutor() as pool:
        photos = pool.map(read, [path for path, _ in files])
        for (path, name), photo in zip(files, photos, strict=True):
            if photo is None:
                left.add(why_unread(path), os.fspath(path))
            else:
                kept.append((path, name))
                pixels.append(photo)
    labels = [name for _, name in kept if name is not None]
    stacked = np.stack(pixels) if pixels else np.empty((0, *image), np.uint8)
    return Photos([path for path, _ in kept], stacked, labels or None, left.text())


def as_network_takes(photo: Image.Image, image: Sequence[int]) -> np.ndarray:
    """A photo in the network's colours, squashed to its size: uint8 (C, H, W)."""
    channels, height, width = image
    photo = as_seen(photo)
    if channels == 1:
        photo = photo.convert("L")
    if photo.size != (width, height):
        photo = photo.resize((width, height), FILTER)
    pixels = np.asarray(photo)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)

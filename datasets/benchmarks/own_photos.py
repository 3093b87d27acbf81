"""Somebody's own photos, as a trained learner takes them: a folder for each class, and queries.

They are listed and read as the benchmark `folder` does (docs/own-images.md).
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from zoo.datasets.readers.base import FILTER, load_image
from zoo.datasets.readers.own_listing import LeftOut, list_folder, shown
from zoo.datasets.readers.own_pixels import as_seen
from zoo.errors import UsageError

AGAIN = "mend it, or take it out"  # what to do about a damaged photo


class Photos(NamedTuple):
    """Images in the size and colours that a network takes, and where they are from."""

    files: list[Path]
    pixels: np.ndarray  # (n, C, H, W) uint8
    labels: list[str] | None  # the class of each; None where it is not known
    left_out: str  # what was passed over, in a line; empty for nothing


def support_photos(folder: Path, image: Sequence[int]) -> Photos:
    """The photos of a folder that has a folder for each class.

    Args:
        folder: that holds the class folders.
        image: (C, H, W) that they are brought to.

    Raises:
        UsageError: there are fewer than two classes, a class has no image, or one cannot be read.
    """
    left = LeftOut(folder)
    by_class, _ = listed(folder, left, "--support")
    if len(by_class) < 2:
        raise UsageError(
            f"--support {folder}: expected a folder of images for each class, at least two; found "
            f"{', '.join(by_class) or 'none'}"
        )
    if empty := [name for name, paths in by_class.items() if not paths]:
        raise UsageError(f"--support {folder}: class {empty[0]!r} has no image; remove its folder")
    return labelled(by_class, image, left)


def query_photos(folder: Path, image: Sequence[int]) -> Photos:
    """The photos of a flat folder; or of one with a folder for each class, so they are labelled.

    Raises:
        UsageError: there is no image, or one cannot be read.
    """
    left = LeftOut(folder)
    found, flat = listed(folder, left, "--query")
    by_class = {name: paths for name, paths in found.items() if paths}
    if flat and by_class:
        raise UsageError(
            f"--query {folder}: has images and also folders of images ({', '.join(by_class)}); "
            "expected one or the other"
        )
    if by_class:
        return labelled(by_class, image, left)
    if not flat:
        raise UsageError(f"--query {folder}: no image in it; {left.text() or 'it is empty'}")
    return Photos(flat, read_all(flat, image), None, left.text())


def listed(folder: Path, left: LeftOut, flag: str) -> tuple[dict[str, list[Path]], list[Path]]:
    """The image files of each class folder by its name, and those beside the folders.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{flag} {folder}: there is no such folder")
    root = list_folder(os.fspath(folder), left)
    by_class = {}
    for path in root.folders:
        inside = list_folder(path, left)
        by_class[inside.name] = [Path(image.path) for image in inside.images]
    return by_class, [Path(image.path) for image in root.images]


def labelled(by_class: Mapping[str, Sequence[Path]], image: Sequence[int], left: LeftOut) -> Photos:
    """The photos of all classes, one class after the other."""
    files = [path for paths in by_class.values() for path in paths]
    labels = [name for name, paths in by_class.items() for _ in paths]
    return Photos(files, read_all(files, image), labels, left.text())


def read_all(files: Sequence[Path], image: Sequence[int]) -> np.ndarray:
    """Every photo as `as_network_takes` has it, on all cores: (n, C, H, W)."""

    def read(path: Path) -> np.ndarray:
        return as_network_takes(load_image(path, shown(os.fspath(path)), AGAIN), image)

    with ThreadPoolExecutor() as pool:
        return np.stack([*pool.map(read, files)])


def as_network_takes(photo: Image.Image, image: Sequence[int]) -> np.ndarray:
    """A photo in grey or colour as the network takes it, squashed to its size: uint8 (C, H, W)."""
    channels, height, width = image
    photo = as_seen(photo)
    if channels == 1:
        photo = photo.convert("L")
    if photo.size != (width, height):
        photo = photo.resize((width, height), FILTER)
    pixels = np.asarray(photo)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)

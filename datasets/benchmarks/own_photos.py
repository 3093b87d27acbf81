"""Somebody's own photos, as a trained learner takes them: a folder for each class, and queries."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from zoo.datasets.readers.base import FILTER, load_image
from zoo.datasets.readers.class_folders import folders_in, images_in
from zoo.errors import UsageError


class Photos(NamedTuple):
    """Images in the size and colours that a network takes, and where they are from."""

    files: list[Path]
    pixels: np.ndarray  # (n, C, H, W) uint8
    labels: list[str] | None  # the class of each; None where it is not known


def support_photos(folder: Path, image: Sequence[int]) -> Photos:
    """The photos of a folder that has a folder for each class.

    Args:
        folder: that holds the class folders.
        image: (C, H, W) that they are brought to.

    Raises:
        UsageError: there are fewer than two classes, a class has no image, or one cannot be read.
    """
    by_class = photos_by_class(folder)
    if len(by_class) < 2:
        raise UsageError(
            f"--support {folder}: expected a folder of images for each class, at least two; found "
            f"{', '.join(by_class) or 'none'}"
        )
    if empty := [name for name, paths in by_class.items() if not paths]:
        raise UsageError(f"--support {folder}: class {empty[0]!r} has no image; remove its folder")
    return labelled(by_class, image)


def query_photos(folder: Path, image: Sequence[int]) -> Photos:
    """The photos of a flat folder; or of one with a folder for each class, so they are labelled.

    Raises:
        UsageError: there is no image, or one cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"--query {folder}: there is no such folder")
    by_class = {name: paths for name, paths in photos_by_class(folder).items() if paths}
    flat = images_in(folder)
    if flat and by_class:
        raise UsageError(
            f"--query {folder}: has images and also folders of images ({', '.join(by_class)}); "
            "expected one or the other"
        )
    if by_class:
        return labelled(by_class, image)
    if not flat:
        raise UsageError(f"--query {folder}: no image in it")
    return Photos(flat, read_all(flat, image), None)


def photos_by_class(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class folder, by the name of the class."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder")
    return {path.name: images_in(path) for path in folders_in(folder)}


def labelled(by_class: Mapping[str, Sequence[Path]], image: Sequence[int]) -> Photos:
    """The photos of all classes, one class after the other."""
    files = [path for paths in by_class.values() for path in paths]
    labels = [name for name, paths in by_class.items() for _ in paths]
    return Photos(files, read_all(files, image), labels)


def read_all(files: Sequence[Path], image: Sequence[int]) -> np.ndarray:
    """Every photo as `as_network_takes` has it, on all cores: (n, C, H, W)."""
    with ThreadPoolExecutor() as pool:
        return np.stack([*pool.map(lambda path: as_network_takes(load_image(path), image), files)])


def as_network_takes(photo: Image.Image, image: Sequence[int]) -> np.ndarray:
    """A photo in grey or colour as the network takes it, squashed to its size: uint8 (C, H, W)."""
    channels, height, width = image
    photo = photo.convert("L" if channels == 1 else "RGB")
    if photo.size != (width, height):
        photo = photo.resize((width, height), FILTER)
    pixels = np.asarray(photo)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)

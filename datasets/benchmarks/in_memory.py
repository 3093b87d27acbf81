"""A user's own images in memory: a benchmark made of datasets of (image, label)."""

import contextlib
import warnings
from collections.abc import Mapping
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from zoo.datasets.benchmarks.base import Benchmark
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError


class ImagesInMemory(Benchmark):
    """A user's own datasets, one for each split, held in memory.

    Settings are those of the benchmark `folder`. Mean and standard deviation of each channel are
    those of the training images.
    """

    key = "folder"
    title = "Own images"
    own = True
    allowed: ClassVar = {}
    per_class = None

    def __init__(self, datasets: Mapping[str, Any]) -> None:
        """Read every image once.

        Args:
            datasets: by split, ``train``, ``test`` and, to choose weights by validation, ``val``.
                Each is anything with a length whose items are (image, label), such as a torch
                Dataset; no class may be in two splits. An image is a PIL image (grey stays
                grey, all else becomes RGB, transparent parts white), or an array or tensor
                (C, H, W) or (H, W), uint8 or floating-point in [0, 1]. All have one shape. A label
                is a number or a name.

        Raises:
            UsageError: a split is missing or unknown, an image or a class's name is in two splits,
                or an image is not of these kinds. If two splits have a label in common that is a
                number, there is a warning alone, as each may have been numbered from 0 on.
        """
        super().__init__()
        if not isinstance(datasets, Mapping):
            raise UsageError(
                f"datasets: a {type(datasets).__name__}; expected a dict by split, "
                '{"train": ..., "test": ...}'
            )
        unknown = sorted({*datasets} - {"train", "val", "test"})
        missing = sorted({"train", "test"} - {*datasets})
        if unknown or missing:
            raise UsageError(
                f"datasets by split: {', '.join(datasets) or 'none'}; expected train, test and, if "
                "there is one, val"
            )
        self.stores = {split: store_of(dataset, split) for split, dataset in datasets.items()}
        for one, other in combinations(self.stores, 2):
            check_apart(one, self.stores[one], other, self.stores[other])
        shapes = {split: tuple(store.images.shape[1:]) for split, store in self.stores.items()}
        if len({*shapes.values()}) > 1:
            raise UsageError(f"images differ in shape: {shapes}; resize them to one")
        self.image = shapes["train"]  # type: ignore[misc]
        pixels = self.stores["train"].images.transpose(0, 1).flatten(1).double() / 255
        self.mean = tuple(pixels.mean(1).tolist())  # type: ignore[misc]
        self.std = tuple(pixels.std(1).clamp_min(1e-3).tolist())  # type: ignore[misc]

    @property
    def splits(self) -> list[str]:
        """The splits that it has."""
        return list(self.stores)

    def lists(self) -> dict[str, list[str]]:
        """The classes of each split."""
        return {split: list(store.names) for split, store in self.stores.items()}

    def open(self, data: Path | None) -> dict[str, Store]:
        """The images, whatever `data` is."""
        return dict(self.stores)


def check_apart(one: str, its_store: Store, other: str, other_store: Store) -> None:
    """Check that two splits have neither an image nor a class in common.

    Args:
        one: the name of a split.
        its_store: its images.
        other: the name of the other split.
        other_store: that one's images.

    Raises:
        UsageError: they have an image in common, or the name of a class. If the name is a number,
            a warning is given instead.
    """
    names = set(its_store.names) & set(other_store.names)
    listed = ", ".join(sorted(names)[:3])
    advice = (
        "a few-shot test needs classes that were not trained on, so give each split classes of its "
        "own, instead of a part of the images of each class"
    )
    same = len(image_hashes(its_store) & image_hashes(other_store))
    if same:
        images = "an image" if same == 1 else f"{same} images"
        raise UsageError(f"{one} and {other} have {images} in common; {advice}")
    if any(not is_number(name) for name in names):
        raise UsageError(f"{one} and {other} have classes in common, such as {listed}; {advice}")
    if names:
        warnings.warn(
            f"{one} and {other} both have labels {listed}. If these are the same classes, {advice}",
            stacklevel=4,
        )


def image_hashes(store: Store) -> set[bytes]:
    """A hash of each image."""
    return {blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in store.images}


def is_number(name: str) -> bool:
    """Whether a class's name is a number."""
    with contextlib.suppress(ValueError):
        float(name)
        return True
    return False


def store_of(dataset: Any, split: str) -> Store:
    """The images of a dataset of (image, label), class by class.

    Raises:
        UsageError: it is no such dataset, it is empty, or an image is not of a kind we take.
    """
    if isinstance(dataset, Mapping) or not all(
        hasattr(dataset, name) for name in ("__len__", "__getitem__")
    ):
        raise UsageError(
            f"{split}: a {type(dataset).__name__}; expected something with a length whose items "
            "0, 1, ... are (image, label), such as a list or a torch Dataset"
        )
    by_class: dict[str, list[np.ndarray]] = {}
    for number in range(len(dataset)):
        item = dataset[number]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UsageError(
                f"{split}: item {number} is a {type(item).__name__}; expected (image, label)"
            )
        image, label = item
        name = label_of(label, f"{split}: item {number}")
        by_class.setdefault(name, []).append(pixels_of(image, f"{split}: image {number}"))
    if not by_class:
        raise UsageError(f"{split}: the dataset is empty")
    shapes = {image.shape for images in by_class.values() for image in images}
    if len(shapes) > 1:
        raise UsageError(f"{split}: images differ in shape: {sorted(shapes)[:3]}; resize them")
    names = sorted(by_class)
    return Store.from_arrays(names, [np.stack(by_class[name]) for name in names])


def label_of(label: Any, where: str) -> str:
    """The name of a class.

    Raises:
        UsageError: the label is no single number or name.
    """
    if isinstance(label, torch.Tensor | np.ndarray) and label.ndim:
        raise UsageError(
            f"{where}: a label of shape {tuple(label.shape)}; expected one number or name (of a "
            "one-hot label its argmax)"
        )
    single = label.item() if hasattr(label, "item") else label
    if not isinstance(single, str | int | float) or str(single) == "nan":
        raise UsageError(f"{where}: the label is {single!r:.60}; expected one number or name")
    return str(single)


def pixels_of(image: Any, where: str) -> np.ndarray:
    """An image as uint8 (C, H, W).

    Args:
        image: a PIL image, or an array or tensor (C, H, W) or (H, W), uint8 or in [0, 1].
        where: which image it is, for messages.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(image, Image.Image):
        pixels = np.asarray(grey_or_colour(image, where))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        image = image.float() if image.dtype == torch.bfloat16 else image
    if not isinstance(image, torch.Tensor | np.ndarray):
        raise UsageError(
            f"{where}: a {type(image).__name__}; expected a PIL image, an array or a tensor"
        )
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim == 3 and pixels.shape[0] > 4 and pixels.shape[2] <= 4:
        raise UsageError(f"{where}: shape {pixels.shape}, channels last; transpose to (C, H, W)")
    if pixels.ndim != 3 or pixels.shape[0] > 4 or not pixels.size:
        raise UsageError(f"{where}: shape {pixels.shape}; expected (C, H, W) or (H, W)")
    if pixels.dtype == np.uint8:
        return pixels
    if np.issubdtype(pixels.dtype, np.floating) and np.isnan(pixels).any():
        raise UsageError(f"{where}: some pixels are nan; expected numbers in [0, 1]")
    if not np.issubdtype(pixels.dtype, np.floating) or pixels.min() < 0 or pixels.max() > 1:
        raise UsageError(
            f"{where}: {pixels.dtype} from {pixels.min():g} to {pixels.max():g}; expected uint8, "
            "or floating-point numbers in [0, 1] (leave out what normalises them)"
        )
    return np.rint(pixels * 255).astype(np.uint8)


def grey_or_colour(image: Image.Image, where: str) -> Image.Image:
    """The image in mode L or RGB, with transparent parts white.

    Raises:
        UsageError: its pixels have more than 8 bits.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        raise UsageError(
            f"{where}: PIL mode {image.mode}, of more than 8 bits; scale it to mode L or RGB"
        )
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")

"""Small image sets with the published classes and a few pictures each, real ones if available.

`Tables` hold the pictures of each class of each split. A picture is an encoded file, and its pixels
are what that file decodes to. All forms of a set are made from the same pictures, so they hold the
same pixels, also where files are JPEGs.
"""

import csv
import json
import os
import pickle
import zlib
from collections.abc import Callable
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from zoo.datasets import splits
from zoo.datasets.benchmarks import glyphs

FEW = 3  # pictures of each class, in sets whose classes all have equally many
DRAWINGS = 2  # of each character of Omniglot


class Picture:
    """An encoded image; its pixels are uint8 (H, W, 3), or (H, W) if it is grey or 1-bit."""

    def __init__(self, file: bytes) -> None:
        self.file = file

    @classmethod
    def of(cls, pixels: np.ndarray, file_format: str = "PNG", **options: int) -> "Picture":
        return cls(encoded(Image.fromarray(pixels), file_format, **options))

    @cached_property
    def pixels(self) -> np.ndarray:
        with Image.open(BytesIO(self.file)) as image:
            return np.asarray(image)


Tables = dict[str, dict[str, list[Picture]]]  # split -> class -> pictures


def encoded(image: Image.Image, file_format: str, **options: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@cache
def _drawings() -> np.ndarray:
    return np.concatenate([images for _, images in glyphs.load().values()])


def glyph_in_colour(name: str, index: int, height: int, width: int) -> np.ndarray:
    """A glyph in one colour on another, redder than blue on average as photographs are."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), index])
    drawings = _drawings()
    drawing = drawings[rng.integers(len(drawings)), rng.integers(drawings.shape[1])]
    soft = Image.fromarray(drawing).resize((width, height)).filter(ImageFilter.BoxBlur(1))
    ink = np.asarray(soft)[..., None] / 255
    colour, ground = rng.uniform((65, 50, 20), (245, 230, 200), (2, 3))
    return (colour * ink + ground * (1 - ink)).astype(np.uint8)


def real(folder: str) -> Path | None:
    """A folder of real images in the folder that ZOO_DATA names, if it is there."""
    path = Path(os.environ.get("ZOO_DATA") or "/nowhere") / folder
    return path if path.is_dir() else None


@cache
def mini() -> Tables:
    """mini-ImageNet as 84x84 JPEGs."""
    lists, home = splits.miniimagenet(), real("miniimagenet")
    if not home:
        return {
            split: {name: [_jpeg(name, i) for i in range(FEW)] for name in names}
            for split, names in lists.items()
        }
    tables: Tables = {split: {name: [] for name in names} for split, names in lists.items()}
    for split, classes in tables.items():
        with (home / f"{split}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                if len(pictures := classes[row["label"]]) < FEW:
                    pictures.append(Picture((home / "images" / row["filename"]).read_bytes()))
    return tables


def _jpeg(name: str, index: int) -> Picture:
    return Picture.of(glyph_in_colour(name, index, 84, 84), "JPEG", quality=75)


@cache
def tiered() -> Tables:
    """tiered-ImageNet as 84x84 PNGs, one or two of each class; it shares 58 with mini-ImageNet."""
    photographs: dict[str, list[Picture]] = {}
    for classes in mini().values():
        photographs |= classes
    tables: Tables = {}
    for split, names in splits.tieredimagenet().items():
        tables[split] = {}
        for name in names:
            if name in photographs:
                arrays = [picture.pixels for picture in photographs[name]]
            else:
                arrays = [glyph_in_colour(name, i, 84, 84) for i in range(2)]
            count = 1 + len(name + split) % 2
            tables[split][name] = [Picture.of(array, compress_level=1) for array in arrays[:count]]
    return tables


@cache
def cifar100() -> dict[str, list[Picture]]:
    """CIFAR-100's classes as 32x32 PNGs."""
    names, home = splits.fine_names(), real("cifar-100-python")
    if not home:
        return {
            name: [Picture.of(glyph_in_colour(name, i, 32, 32)) for i in range(FEW)]
            for name in names
        }
    train = pickle.loads((home / "train").read_bytes(), encoding="bytes")
    labels = np.array(train[b"fine_labels"])
    rows = [train[b"data"][np.flatnonzero(labels == i)[:FEW]] for i in range(len(names))]
    return {
        name: [Picture.of(row.reshape(3, 32, 32).transpose(1, 2, 0)) for row in of_class]
        for name, of_class in zip(names, rows, strict=True)
    }


def cifar(which: str) -> Tables:
    """CIFAR-FS (``cifar_fs``) or FC100 (``fc100``)."""
    pictures = cifar100()
    return {
        split: {name: pictures[name] for name in names}
        for split, names in splits.cifar100(which).items()
    }


@cache
def omniglot(split: str = "vinyals") -> Tables:
    """Omniglot's characters as Lake's 1-bit PNGs, ink black."""
    home = real("omniglot-py")
    return {
        part: {name: _characters(name, home) for name in names}
        for part, names in splits.omniglot(split).items()
    }


@cache
def _characters(name: str, home: Path | None) -> list[Picture]:
    if home:
        files = sorted(home.glob(f"images_*/{name}/*.png"))[:DRAWINGS]
        return [Picture(file.read_bytes()) for file in files]
    number = zlib.crc32(name.encode())
    drawings = _drawings().reshape(-1, 28, 28)[number % 10_000 :][:DRAWINGS]
    large = [np.pad(drawing.repeat(3, 0).repeat(3, 1), ((10, 11), (9, 12))) for drawing in drawings]
    for array in large:  # the character's number as 32 pixels, so that no two are the same
        array[0, :32] = np.unpackbits(np.array([number], ">u4").view(np.uint8)) * 255
    return [Picture(encoded(Image.fromarray(array == 0), "PNG")) for array in large]


@cache
def cub() -> Tables:
    """CUB-200-2011's species as JPEGs of several sizes, about one in ten grey.

    Only the first few have their real names.
    """
    birds = ["Black_footed_Albatross", "Laysan_Albatross", "Sooty_Albatross", "Groove_billed_Ani"]
    birds += [f"Bird_of_Kind_{i}" for i in range(len(birds), 200)]
    tables: Tables = {"train": {}, "val": {}, "test": {}}
    for i, bird in enumerate(birds):
        name = f"{i + 1:03}.{bird}"
        split = ("train", "val", "train", "test")[i % 4]
        tables[split][name] = [_bird(name, j) for j in range(2)]
    return tables


def _bird(name: str, index: int) -> Picture:
    size = 60 + zlib.crc32(f"{name}{index}".encode()) % 60
    pixels = glyph_in_colour(name, index, size, 150 - size)
    return Picture.of(pixels[..., 0] if size % 10 == 0 else pixels, "JPEG", quality=90)


@cache
def folder() -> Tables:
    """A user's own images: some classes, images of several sizes, names that are not ASCII."""
    tables: Tables = {}
    for split, count in (("train", 7), ("val", 2), ("test", 3)):
        tables[split] = {
            f"{split} {i} ç": [_bird(f"{split}{i}", j) for j in range(2)] for i in range(count)
        }
    return tables


def few(tables: Tables, **counts: int) -> Tables:
    """The first classes of some splits, as many as asked for: `few(tables, train=5, test=2)`."""
    return {
        split: dict(list(tables[split].items())[:count])
        for split, count in counts.items()
        if split in tables
    }


def superclasses() -> dict[str, str]:
    """The wnid of the superclass of each class of tiered-ImageNet."""
    files = (Path(splits.__file__).parent / "tieredimagenet_ssl").glob("*.csv")
    return {row[0]: row[1] for path in files for row in csv.reader(path.read_text().splitlines())}


def tiered_names() -> dict[str, str]:
    """The full name of each class of tiered-ImageNet, by wnid."""
    path = Path(splits.__file__).parent / "tieredimagenet_names.csv"
    rows = csv.DictReader(path.read_text().splitlines())
    return {row["wnid"]: row["name"] for row in rows}


def cifar_meta() -> tuple[list[str], list[str], list[int]]:
    """CIFAR-100's fine names, coarse names, and the number of each fine class's coarse class."""
    text = (Path(splits.__file__).parent / "cifar100_splits.json").read_text()
    facts = json.loads(text)
    return facts["fine"], facts["coarse"], facts["fine_to_coarse"]


def tables_of(benchmark: str) -> Tables:
    """The pictures of a benchmark, by split and by the class names that its forms use."""
    makers: dict[str, Callable[[], Tables]] = {
        "miniimagenet": mini,
        "tieredimagenet": tiered,
        "cifarfs": lambda: cifar("cifar_fs"),
        "fc100": lambda: cifar("fc100"),
        "omniglot": omniglot,
        "cub": cub,
        "folder": folder,
    }
    return makers[benchmark]()

"""Readers: one file for each published form of an image set.

A reader finds its form below a folder, checks it against the published class lists, and hands out
the images class by class, as the store keeps them: uint8, channels first. Everything that can be
wrong with what it finds is a `UsageError` of one line that names the file or the class.
"""

import json
import os
import struct
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from PIL import Image

from zoo.errors import UsageError

# Folders that usually hold a set, whatever its form.
MINI_HOMES = ("miniimagenet", "mini-imagenet", "miniImagenet", "mini_imagenet")
TIERED_HOMES = ("tieredimagenet", "tiered-imagenet", "tieredImageNet", "tiered_imagenet")

Item = TypeVar("Item")
_Result = TypeVar("_Result")
FILTER = Image.Resampling.BILINEAR

# What Pillow raises on damaged files, by format and by where the damage lies.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class ImageSet(Protocol):
    """What checking and fetching need to know of a benchmark; see `Benchmark`."""

    key: ClassVar[str]
    title: ClassVar[str]
    own: ClassVar[bool]
    per_class: int | None

    @property
    def variant(self) -> str:
        """Its key and the options not at default."""

    @property
    def source(self) -> "ImageSet":
        """Whose images it takes, as they are stored."""

    def lists(self) -> dict[str, list[str]]:
        """The published class list of each split."""

    def readers(self) -> "list[type[Reader]]":
        """The readers of its published forms, the preferred one first."""

    def find(self, data: Path | None) -> "Reader":
        """The first reader of a form that lies at or below `data`."""


class Reader(ABC):
    """One published form of an image set, lying in `folder`.

    Args:
        folder: where the form's files are, as `find` gives it.
        lists: the classes that belong to each split.
        per_class: how many images every class must have; None where classes differ.
    """

    form: ClassVar[str]  # its name in addresses.csv, and in messages
    needs: ClassVar[str]  # the files that make it, for the message that says what was looked for
    homes: ClassVar[tuple[str, ...]]  # folders that usually hold it
    # What turns the files into pixels. It is part of the source's fingerprint: change it together
    # with the pixels, and stores that were built the old way are built anew.
    recipe: str
    again: ClassVar[str] = "fetch it again"  # what to do about damaged files
    left_out: str = ""  # what lies there and is passed over, in one line
    remark: str = ""  # what else a person should know of what lies there
    unreadable: str = ""  # what `images` passed over besides, when a split was read to its end

    def __init__(self, folder: Path, lists: dict[str, list[str]], per_class: int | None) -> None:
        self.folder = folder
        self.lists = lists
        self.per_class = per_class
        self._found: tuple[str, Mapping[str, Sequence[Any]]] | None = None

    @classmethod
    def find(cls, root: Path, lists: dict[str, list[str]], per_class: int | None) -> Self | None:
        """The reader of this form at or below `root`, or None where the form is not there."""
        inside = [  # of cifar100/data, data/ where cifar100/ itself was given
            root / Path(home).relative_to(root.absolute().name)
            for home in cls.homes
            if Path(home).is_relative_to(root.absolute().name)
        ]
        for folder in (root, *(root / home for home in cls.homes), *inside):
            with readable(folder):
                if cls.is_in(folder, lists):
                    return cls(folder, lists, per_class)
        return None

    @classmethod
    @abstractmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Whether `folder` holds this form, be it damaged or incomplete."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files and folders whose size and time of change tell whether the source changed."""

    @abstractmethod
    def where(self, split: str) -> Path:
        """The file or folder that says which classes a split has, for messages."""

    @abstractmethod
    def scan(self, split: str) -> Mapping[str, Sequence[Any]]:
        """What each class of a split is made of, one item an image, not compared with the lists.

        Raises:
            UsageError: a file is missing or damaged.
        """

    @abstractmethod
    def decode(self, item: Any) -> np.ndarray:
        """The image uint8 (C, H, W) of an item of `scan`.

        Raises:
            UsageError: it is damaged or of another kind.
        """

    def image_files(self, split: str) -> Iterable[Path]:
        """The files of a split's images where these may have any size; else none."""
        return ()

    def found(self, split: str) -> Mapping[str, Sequence[Any]]:
        """`scan`, kept for one split at a time: it may hold all pixels."""
        if not self._found or self._found[0] != split:
            self._found = None
            with readable(self.folder):
                self._found = split, self.scan(split)
        return self._found[1]

    def classes(self, split: str) -> list[str]:
        """Names of the split's classes, in the order of `images`, which is that of the class list.

        Raises:
            UsageError: the source does not hold exactly these classes, `per_class` images each.
        """
        found = self.found(split)
        compare_classes(self.where(split), found, self.lists, split, self.again)
        for name, items in found.items():
            if len(items) != (self.per_class or len(items) or 1):
                raise UsageError(
                    f"{self.where(split)}: class {name!r} has {len(items)} images, expected "
                    f"{self.per_class or 'some'}; {self.again}"
                )
        return self.lists[split]

    def images(self, split: str) -> Iterator[np.ndarray]:
        """One array a class, uint8 (n, C, H, W), in the order of `classes`, rows `by_content`.

        That of a class is empty where none of its images can be used.

        Raises:
            UsageError: an image is damaged or of another kind.
        """
        groups = [self.found(split)[name] for name in self.classes(split)]
        decoded = in_order(self.decode, (item for group in groups for item in group))
        for group in groups:
            yield by_content(np.stack([next(decoded) for _ in group]))

    def check(self) -> None:
        """Check the classes of every split, before anything is built from one of them."""
        for split in self.lists:
            self.classes(split)

    def fingerprint(self) -> str:
        """A quick fingerprint of the source: names, sizes and times of change, not contents."""
        with readable(self.folder):
            files = self.files()
        state = [(path.relative_to(self.folder).as_posix(), *_stat(path)) for path in files]
        facts = json.dumps([self.form, self.recipe, self.lists, state])
        return blake2b(facts.encode(), digest_size=16).hexdigest()


@contextmanager
def readable(place: Path) -> Iterator[None]:
    """Turn the system's refusal to list a folder, as a rule for want of permission, into advice."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{error.filename or place}: cannot be read ({error.strerror}); make it readable for "
            "you, or name another folder with --data"
        ) from error


def by_content(images: np.ndarray) -> np.ndarray:
    """Images (n, ...) ordered by a hash of their pixels.

    Forms of the same set hold a class's images in different orders, some without file names.
    Ordered by content, all of them give the same rows, so the same episodes.
    """
    order = sorted(range(len(images)), key=lambda i: blake2b(images[i].tobytes()).digest())
    return images[order]


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # a missing file is named when the classes are checked
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def in_order(function: Callable[[Item], _Result], items: Iterable[Item]) -> Iterator[_Result]:
    """``map(function, items)`` on one thread a core, only a few results ahead of the consumer."""
    threads = os.cpu_count() or 1
    ahead: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > 16 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def load_image(
    source: Path | bytes, name: object = None, advice: str = "unpack it again"
) -> Image.Image:
    """Decode an image in full.

    Args:
        source: its file, or what would be in one.
        name: what to call it in messages; by default the file.
        advice: what to do about it, likewise.

    Raises:
        UsageError: it is missing, empty, truncated or no image.
    """
    name = source if name is None else name
    file = source if isinstance(source, Path) else BytesIO(source)
    try:
        with Image.open(file) as image:
            if image.format != "PNG":
                image.load()
                return image
            image.verify()  # the checksums: decoding skips them
        with Image.open(file) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise UsageError(f"{name}: the image is missing; {advice}") from None
    except _DAMAGE as error:
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        reason = f"damaged or truncated ({one_line(error)})" if size else "empty"
        raise UsageError(f"{name}: expected an image, the file is {reason}; {advice}") from error


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its file's first bytes; (0, 0) where it is none."""
    try:
        with Image.open(path) as image:
            return image.size
    except _DAMAGE:
        return 0, 0


# Squashing to the size wanted is what the common caches of mini- and tiered-ImageNet do
# (renmengye/few-shot-ssl-public); Pillow's bilinear filter averages when it shrinks.


def colour_pixels(image: Image.Image, side: int, name: object, convert: bool = False) -> np.ndarray:
    """A colour image as uint8 (3, side, side), squashed where it has another size.

    Raises:
        UsageError: it is grey or has a palette, and `convert` is not set.
    """
    if image.mode != "RGB":
        if not convert:
            raise UsageError(
                f"{name}: expected a colour image (RGB), its mode is {image.mode!r}; "
                "unpack it again"
            )
        image = image.convert("RGB")
    if image.size != (side, side):
        image = image.resize((side, side), FILTER)
    return np.asarray(image).transpose(2, 0, 1)


def one_line(error: BaseException) -> str:
    """An exception's message in one line, its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def compare_classes(
    source: Path, found: Iterable[str], lists: dict[str, list[str]], split: str, again: str
) -> None:
    """Check that `source` holds the classes of `split`, all of them and no other.

    Raises:
        UsageError: names the first class that is too many or missing, and ends with `again`.
    """
    expected = lists[split]
    home = {name: other for other, names in lists.items() for name in names}
    advice = f"expected the {len(expected)} {split} classes of datasets/splits; {again}"
    for name in found:
        if home.get(name) != split:
            what = f"a {home[name]} class" if name in home else "in none of the splits"
            raise UsageError(f"{source}: holds class {name!r}, which is {what}, {advice}")
    for name in sorted(set(expected).difference(found)):
        raise UsageError(f"{source}: class {name!r} of the {split} split is missing, {advice}")

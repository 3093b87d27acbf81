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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import numpy as np
from PIL import Image

from zoo.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

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


class Reader(ABC):
    """One published form of an image set, lying in `folder`.

    Args:
        folder: where the form's files are, as `find` gives it.
        lists: the classes that belong to each split.
        per_class: how many images every class must have.
    """

    form: ClassVar[str]  # its name in sources.csv, and in messages
    needs: ClassVar[str]  # the files that make it, for the message that says what was looked for
    homes: ClassVar[tuple[str, ...]]  # folders that usually hold it
    # What turns the files into pixels. It is part of the source's fingerprint: change it together
    # with the pixels, and stores that were built the old way are built anew.
    recipe: ClassVar[str]

    def __init__(self, folder: Path, lists: dict[str, list[str]], per_class: int) -> None:
        self.folder = folder
        self.lists = lists
        self.per_class = per_class

    @classmethod
    def find(cls, root: Path, lists: dict[str, list[str]], per_class: int) -> Self | None:
        """The reader of this form at or below `root`, or None where the form is not there."""
        for folder in (root, *(root / home for home in cls.homes)):
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
    def classes(self, split: str) -> list[str]:
        """Names of the split's classes, in the order of `images`.

        Raises:
            UsageError: the source does not hold exactly these classes, `per_class` images each.
        """

    @abstractmethod
    def images(self, split: str) -> Iterator[np.ndarray]:
        """One array a class, uint8 (n, C, H, W), in the order of `classes`.

        Raises:
            UsageError: an image is damaged or of another kind.
        """

    def check(self) -> None:
        """Check the classes of every split, before anything is built from one of them."""
        for split in self.lists:
            self.classes(split)

    def fingerprint(self) -> str:
        """A quick fingerprint of the source: names, sizes and times of change, not contents."""
        state = [(path.relative_to(self.folder).as_posix(), *_stat(path)) for path in self.files()]
        facts = json.dumps([self.form, self.recipe, self.lists, state])
        return blake2b(facts.encode(), digest_size=16).hexdigest()


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # a missing file is named when the classes are checked
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map(function, items)`` on one thread a core, only a few results ahead of the consumer."""
    threads = os.cpu_count() or 1
    ahead: deque[Future[Result]] = deque()
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


def load_image(path: Path) -> Image.Image:
    """Decode an image file in full.

    Raises:
        UsageError: it is missing, empty, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise UsageError(f"{path}: the image is missing; unpack the archive again") from None
    except _DAMAGE as error:
        reason = (
            "empty" if path.stat().st_size == 0 else f"damaged or truncated ({one_line(error)})"
        )
        raise UsageError(
            f"{path}: expected an image, the file is {reason}; unpack it again"
        ) from error


def one_line(error: BaseException) -> str:
    """An exception's message in one line, its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def compare_classes(
    source: Path, found: Iterable[str], lists: dict[str, list[str]], split: str
) -> None:
    """Check that `source` holds the classes of `split`, all of them and no other.

    Raises:
        UsageError: names the first class that is too many or missing.
    """
    expected = lists[split]
    home = {name: other for other, names in lists.items() for name in names}
    advice = f"expected the {len(expected)} {split} classes of datasets/splits"
    for name in found:
        if home.get(name) != split:
            what = f"a {home[name]} class" if name in home else "in none of the splits"
            raise UsageError(
                f"{source}: holds class {name!r}, which is {what}; {advice}: fetch it again"
            )
    for name in sorted(set(expected).difference(found)):
        raise UsageError(f"{source}: class {name!r} is missing; {advice}: fetch it again")

"""Readers: one file for each published form of an image set.

A reader looks for its form below a folder, compares its classes with the published class lists,
and returns the images class by class, as the image store keeps them: uint8, channels first.
Missing or damaged files and wrong classes raise a `UsageError` of one line that names the file or
the class.
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
from importlib import import_module
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
    """The part of `Benchmark` that checking and fetching use."""

    key: ClassVar[str]
    title: ClassVar[str]
    own: ClassVar[bool]
    per_class: int | None

    @property
    def variant(self) -> str:
        """The key, with those options that differ from their defaults in brackets."""

    @property
    def source(self) -> "ImageSet":
        """The benchmark whose stored images it uses: itself, unless it is derived from another."""

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
    # How files are turned into pixels; a part of the fingerprint. Change it whenever the pixels are
    # computed in another way, so that image stores of the old pixels are built anew.
    recipe: str
    again: ClassVar[str] = "fetch it again"  # what to do about damaged files
    left_out: str = ""  # one line about the files and folders that are not used
    remark: str = ""  # one line about how the folders were understood, if that is not obvious
    unreadable: str = ""  # one line about images that `images` could not read, once it has ended

    def __init__(self, folder: Path, lists: dict[str, list[str]], per_class: int | None) -> None:
        self.folder = folder
        self.lists = lists
        self.per_class = per_class
        self._scanned: tuple[str, Mapping[str, Sequence[Any]]] | None = None

    @classmethod
    def find(cls, root: Path, lists: dict[str, list[str]], per_class: int | None) -> Self | None:
        """The reader of this form in `root` or one of its usual folders; None if there is none."""
        inside = [  # if a usual folder is cifar100/data and `root` is cifar100, look in root/data
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
        """Whether `folder` holds this form, even if damaged or incomplete."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files and folders whose sizes and times of change are the fingerprint."""

    @abstractmethod
    def where(self, split: str) -> Path:
        """The file or folder that says which classes a split has, for messages."""

    @abstractmethod
    def scan(self, split: str) -> Mapping[str, Sequence[Any]]:
        """The images of each class of a split, not decoded and not compared with the class lists.

        Returns:
            For each class, one item for each image; `decode` turns an item into pixels.

        Raises:
            UsageError: a file is missing or damaged.
        """

    @abstractmethod
    def decode(self, item: Any) -> np.ndarray:
        """The image uint8 (C, H, W) of an item that `scan` returned.

        Raises:
            UsageError: the image is damaged, or has another mode or size than the form has.
        """

    def image_files(self, split: str) -> Iterable[Path]:
        """The image files of a split, if their sizes may differ and are to be checked."""
        return ()

    def scanned(self, split: str) -> Mapping[str, Sequence[Any]]:
        """The result of `scan`, kept until another split is asked for: it may hold all pixels."""
        if not self._scanned or self._scanned[0] != split:
            self._scanned = None
            with readable(self.folder):
                self._scanned = split, self.scan(split)
        return self._scanned[1]

    def classes(self, split: str) -> list[str]:
        """The names of the split's classes, in the order of the class list, as `images` has them.

        Raises:
            UsageError: the files do not hold exactly these classes with `per_class` images each.
        """
        items_by_class = self.scanned(split)
        compare_classes(self.where(split), items_by_class, self.lists, split, self.again)
        for name, items in items_by_class.items():
            expected = self.per_class or max(len(items), 1)  # if it is not fixed, only 0 is wrong
            if len(items) != expected:
                raise UsageError(
                    f"{self.where(split)}: class {name!r} has {len(items)} images, expected "
                    f"{self.per_class or 'some'}; {self.again}"
                )
        return self.lists[split]

    def images(self, split: str) -> Iterator[np.ndarray]:
        """The images of each class, uint8 (n, C, H, W), in the order of `classes`.

        Within a class they are in the order of `by_content`. A reader that leaves out images
        which cannot be used may give an empty array.

        Raises:
            UsageError: an image is damaged, or has another mode or size than the form has.
        """
        groups = [self.scanned(split)[name] for name in self.classes(split)]
        decoded = in_order(self.decode, (item for group in groups for item in group))
        for group in groups:
            yield by_content(np.stack([next(decoded) for _ in group]))

    def check(self) -> None:
        """Check the classes of all splits before a store is built from any of them."""
        for split in self.lists:
            self.classes(split)

    def fingerprint(self) -> str:
        """A hash of the names, sizes and times of change of the files, not of their contents."""
        with readable(self.folder):
            files = self.files()
        state = [(_name_below(path, self.folder), *_stat(path)) for path in files]
        facts = json.dumps([self.form, self.recipe, self.lists, state])
        return blake2b(facts.encode(), digest_size=16).hexdigest()


@contextmanager
def readable(folder: Path, flag: str = "--data") -> Iterator[None]:
    """Raise a UsageError if a folder cannot be listed, mostly because permission is missing.

    Args:
        folder: that is listed, with those in it.
        flag: that named it, for the message.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{error.filename or folder}: cannot be read ({error.strerror}); make it readable for "
            f"you, or name another folder with {flag}"
        ) from error


def by_content(images: np.ndarray) -> np.ndarray:
    """Images (n, ...) in the order of a hash of their pixels.

    The forms in which a set is published have the images of a class in different orders, and some
    have no file names. In this order all forms give the same rows, and so the same episodes.
    """
    order = sorted(range(len(images)), key=lambda i: blake2b(images[i].tobytes()).digest())
    return images[order]


def _name_below(path: Path, folder: Path) -> str:
    """A path from a folder; that of a file elsewhere as it is."""
    inside = path.is_relative_to(folder)
    return (path.relative_to(folder) if inside else path).as_posix()


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # a missing file is named when the classes are checked
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def in_order(function: Callable[[Item], _Result], items: Iterable[Item]) -> Iterator[_Result]:
    """``map(function, items)`` on as many threads as there are cores.

    At most 16 results for each thread wait to be taken, so that memory stays small.
    """
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
    source: Path | bytes,
    name: object = None,
    advice: str = "unpack it again",
    least: int | None = None,
) -> Image.Image:
    """Decode an image, to its last pixel.

    Args:
        source: the file, or the bytes of one.
        name: what messages call the image; by default the path of the file.
        advice: what messages advise to do if the image is damaged.
        least: a JPEG may be decoded at a half, quarter or eighth of its size, which is faster, as
            long as its sides are not shorter than this. None: in full.

    Raises:
        UsageError: the file is missing, empty, truncated or no image.
    """
    name = source if name is None else name
    file = source if isinstance(source, Path) else BytesIO(source)
    try:
        with Image.open(file) as image:
            if image.format != "PNG":
                if least is not None:
                    image.draft(None, (least, least))
                image.load()
                return image
            image.verify()  # compares the checksums of a PNG file, which decoding does not
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
    """Width and height of an image, by the header of its file; (0, 0) if it is no image."""
    try:
        with Image.open(path) as image:
            return image.size
    except _DAMAGE:
        return 0, 0


def colour_pixels(image: Image.Image, side: int, name: object, convert: bool = False) -> np.ndarray:
    """A colour image as uint8 (3, side, side).

    An image of another size is squashed to this one, as in the common caches of mini- and
    tiered-ImageNet (renmengye/few-shot-ssl-public). Pillow's bilinear filter averages when it
    shrinks.

    Args:
        image: of any size.
        side: height and width of the result, in pixels.
        name: what messages call the image.
        convert: whether an image that is grey or has a palette is converted to colour.

    Raises:
        UsageError: the image is grey or has a palette, and `convert` is not set.
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
    """An exception's message in one line, or the name of its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def compare_classes(
    source: Path, names: Iterable[str], lists: dict[str, list[str]], split: str, again: str
) -> None:
    """Check that a split has exactly the classes of its list.

    Args:
        source: the file or folder that was read, for the message.
        names: of the classes in it.
        lists: the published class list of each split.
        split: that should have been read.
        again: what the message advises to do.

    Raises:
        UsageError: a class is missing or not of this split; names the first such class.
    """
    expected = lists[split]
    split_of_class = {name: other for other, listed in lists.items() for name in listed}
    advice = f"expected the {len(expected)} {split} classes of datasets/splits; {again}"
    for name in names:
        home = split_of_class.get(name)
        if home != split:
            what = f"a {home} class" if home else "in none of the splits"
            raise UsageError(f"{source}: holds class {name!r}, which is {what}, {advice}")
    for name in sorted(set(expected).difference(names)):
        raise UsageError(f"{source}: class {name!r} of the {split} split is missing, {advice}")


def optional_module(name: str, what: object) -> Any:
    """A module of a package that is not installed by default.

    Args:
        name: of the module, such as pyarrow.parquet.
        what: needs it; the message begins with that.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise UsageError(
            f"{what}: expected {package}, which such files need, it is not installed; "
            f"pip install {package}"
        ) from None

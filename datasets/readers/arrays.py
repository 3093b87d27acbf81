"""What forms made of arrays share: an array has all images of a split, one in each row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zoo.datasets.readers.base import Reader
from zoo.datasets.readers.safe_pickle import unpickle
from zoo.errors import UsageError


class ArrayReader(Reader):
    """Each split is one file, with images uint8 (n, side, side, channels) and n labels."""

    side: ClassVar[int]
    channels: ClassVar[int] = 3  # RGB
    # For each split the names that its file may have, the publisher's name first.
    names: ClassVar[dict[str, tuple[str, ...]]]

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Whether any of the files is there."""
        return any((folder / name).is_file() for names in cls.names.values() for name in names)

    def files(self) -> list[Path]:
        """One file for each split."""
        return [self.where(split) for split in self.lists]

    def where(self, split: str) -> Path:
        """The split's file; if it is missing, the path where the publisher's name would be."""
        paths = [self.folder / name for name in self.names[split]]
        return next((path for path in paths if path.is_file()), paths[0])

    def decode(self, item: np.ndarray) -> np.ndarray:
        """The image (channels, side, side) of a row (side, side, channels)."""
        return item.transpose(2, 0, 1)

    def pixels(self, path: Path, pixels: Any) -> np.ndarray:
        """The array `pixels` itself, after a check that it is uint8 (n, side, side, channels).

        Raises:
            UsageError: it has another shape or type, or is no array.
        """
        shape = (self.side, self.side, self.channels)
        if not isinstance(pixels, np.ndarray):
            raise UsageError(f"{path}: expected an array of pixels in it; {self.again}")
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != shape:
            raise UsageError(
                f"{path}: expected pixels of uint8 (n, {', '.join(map(str, shape))}), found "
                f"{pixels.dtype} {pixels.shape}; {self.again}"
            )
        return pixels

    def rows(
        self, path: Path, pixels: Any, labels: Any, names: Mapping[Any, str]
    ) -> Mapping[str, Sequence[np.ndarray]]:
        """The images of each class, by the name of the class.

        Args:
            path: the file, for messages.
            pixels: what the file has as images; must be uint8 (n, side, side, channels).
            labels: what it has as their labels; must be a list or array of n.
            names: the name of the class of each label.

        Raises:
            UsageError: there are other pixels or labels than these, or a label has no name.
        """
        pixels = self.pixels(path, pixels)
        is_list = isinstance(labels, list) or (isinstance(labels, np.ndarray) and labels.ndim == 1)
        count = len(labels) if is_list else "no"
        if count != len(pixels):
            raise UsageError(
                f"{path}: expected a label for each of {len(pixels)} images, found {count} labels; "
                f"{self.again}"
            )
        groups: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
        for label, row in zip(labels, pixels, strict=True):
            name = names.get(label) if isinstance(label, (int, str, np.integer)) else None
            if name is None:
                raise UsageError(
                    f"{path}: label {short_repr(label)} belongs to no class; {self.again}"
                )
            groups[name].append(row)
        return {name: rows for name, rows in groups.items() if rows}


def entries(path: Path, again: str) -> dict[str, Any]:
    """The dictionary in a pickle file, with its keys as text.

    Raises:
        UsageError: the file cannot be read (see `unpickle`) or holds no dictionary.
    """
    content = unpickle(path)
    if not isinstance(content, dict):
        raise UsageError(
            f"{path}: expected a pickled dictionary, found {type(content).__name__}; {again}"
        )
    return {as_text(key): value for key, value in content.items()}


def entry(path: Path, content: Mapping[str, Any], key: str, value_type: type, again: str) -> Any:
    """The value of a key of a pickled dictionary.

    Args:
        path: the file, for the message.
        content: what `entries` returned.
        key: of the entry.
        value_type: that the value must have.
        again: what the message advises to do.

    Raises:
        UsageError: the key is missing, or its value has another type.
    """
    value = content.get(key)
    if not isinstance(value, value_type):
        raise UsageError(
            f"{path}: expected {key!r}, a {value_type.__name__}, in the pickle; {again}"
        )
    return value


def short_repr(value: Any) -> str:
    """The first 60 characters of a value's repr, on one line, for messages."""
    return " ".join(repr(value)[:60].split())


def as_text(value: Any) -> Any:
    """The value with bytes decoded to text, if it is bytes or a list that has bytes in it.

    Files that Python 3 wrote may have bytes where those that Python 2 wrote have strings.
    """
    if isinstance(value, list):
        return [entry.decode("latin1") if isinstance(entry, bytes) else entry for entry in value]
    return value.decode("latin1") if isinstance(value, bytes) else value

"""What the forms made of arrays share: pixels of a whole split in one array, a label a row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zoo.datasets.readers.base import Reader
from zoo.datasets.readers.safe_pickle import unpickle
from zoo.errors import UsageError


class ArrayReader(Reader):
    """One file a split, of uint8 (n, side, side, 3) RGB."""

    side: ClassVar[int]
    # Names that a split's file goes by, the publisher's first.
    names: ClassVar[dict[str, tuple[str, ...]]]

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Any of its files."""
        return any((folder / name).is_file() for name in sum(cls.names.values(), ()))

    def files(self) -> list[Path]:
        """One file a split."""
        return [self.where(split) for split in self.lists]

    def where(self, split: str) -> Path:
        """The split's file; where there is none, what it should be."""
        paths = [self.folder / name for name in self.names[split]]
        return next((path for path in paths if path.is_file()), paths[0])

    def decode(self, item: np.ndarray) -> np.ndarray:
        """The image (3, side, side) of a row (side, side, 3)."""
        return item.transpose(2, 0, 1)

    def pixels(self, path: Path, pixels: Any) -> np.ndarray:
        """What should be uint8 (n, side, side, 3).

        Raises:
            UsageError: it has another shape or type, or is no array.
        """
        shape = (self.side, self.side, 3)
        if not isinstance(pixels, np.ndarray):
            raise UsageError(f"{path}: expected an array of pixels in it; {self.again}")
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != shape:
            raise UsageError(
                f"{path}: expected pixels of uint8 (n, {self.side}, {self.side}, 3), found "
                f"{pixels.dtype} {pixels.shape}; {self.again}"
            )
        return pixels

    def rows(
        self, path: Path, pixels: Any, labels: Any, names: Mapping[Any, str]
    ) -> Mapping[str, Sequence[np.ndarray]]:
        """Pixels by class name.

        Args:
            path: the file, for messages.
            pixels: see `pixels`.
            labels: n of them, list or array.
            names: of the classes, by label.

        Raises:
            UsageError: pixels are not what they should be, or a label has no name.
        """
        pixels = self.pixels(path, pixels)
        listed = isinstance(labels, list) or (isinstance(labels, np.ndarray) and labels.ndim == 1)
        count = len(labels) if listed else "no"
        if count != len(pixels):
            raise UsageError(
                f"{path}: expected a label for each of {len(pixels)} images, found {count} labels; "
                f"{self.again}"
            )
        groups: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
        for label, row in zip(labels, pixels, strict=True):
            name = names.get(label) if isinstance(label, (int, str, np.integer)) else None
            if name is None:
                raise UsageError(f"{path}: label {brief(label)} belongs to no class; {self.again}")
            groups[name].append(row)
        return {name: rows for name, rows in groups.items() if rows}


def entries(path: Path, again: str) -> dict[str, Any]:
    """A pickled dictionary, its keys as text.

    Raises:
        UsageError: it is none.
    """
    content = unpickle(path)
    if not isinstance(content, dict):
        raise UsageError(
            f"{path}: expected a pickled dictionary, found {type(content).__name__}; {again}"
        )
    return {text(key): value for key, value in content.items()}


def entry(path: Path, content: Mapping[str, Any], key: str, kind: type, again: str) -> Any:
    """An entry of such a dictionary, of the kind it must have.

    Raises:
        UsageError: it is missing or of another kind.
    """
    value = content.get(key)
    if not isinstance(value, kind):
        raise UsageError(f"{path}: expected {key!r}, a {kind.__name__}, in the pickle; {again}")
    return value


def brief(thing: Any) -> str:
    """What a file holds in the place of something else, in a few words."""
    return " ".join(repr(thing)[:60].split())


def text(thing: Any) -> Any:
    """Decode bytes that Python 3 wrote where Python 2 has strings: a string, or a list of them."""
    if isinstance(thing, list):
        return [entry.decode("latin1") if isinstance(entry, bytes) else entry for entry in thing]
    return thing.decode("latin1") if isinstance(thing, bytes) else thing

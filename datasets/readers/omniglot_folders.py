"""Omniglot as folders of drawings (Lake et al. 2015).

``images_background/`` and ``images_evaluation/``, or the two merged into one folder; in them
``Alphabet/characterNN/DDDD_PP.png``, 105x105, black ink on white, one drawing a person.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.datasets.readers.base import FILTER, Reader, in_order, load_image
from zoo.errors import UsageError

DRAWN_SIZE = (105, 105)
OMNIGLOT_SIDE = 28
ROTATIONS = (0, 90, 180, 270)


class OmniglotReader(Reader):
    """What all forms of Omniglot share: a character turned by four angles is four classes.

    In subclasses `scan` finds the drawings of each character, and `decode` returns a drawing as
    uint8 (105, 105), ink 0 on ground 255.
    """

    # Bilinear averages black and white pixels to grey; a 1-bit image would be resized by nearest
    # neighbour and lose strokes.
    recipe = f"ink 255, rotated, then {OMNIGLOT_SIDE}x{OMNIGLOT_SIDE} {FILTER.name}, 1"

    def classes(self, split: str) -> list[str]:
        """``Alphabet/characterNN/rotDDD``, four to a character; see `Reader.classes`."""
        return [f"{name}/rot{angle:03}" for name in super().classes(split) for angle in ROTATIONS]

    def images(self, split: str) -> Iterator[np.ndarray]:
        """Arrays (20, 1, 28, 28), ink 255 on ground 0; see `Reader.images`."""
        self.classes(split)
        for turned in in_order(
            self._turn, (self.scanned(split)[name] for name in self.lists[split])
        ):
            yield from turned

    def _turn(self, items: Sequence[Any]) -> np.ndarray:
        """A character's drawings at four angles, uint8 (4, 20, 1, 28, 28), ink 255 on ground 0.

        The drawings are ordered by a hash of the upright ones (see `by_content`).
        """
        drawings = [self.decode(item) for item in items]
        drawings.sort(key=lambda drawing: blake2b(drawing.tobytes()).digest())
        images = [Image.fromarray(drawing) for drawing in drawings]
        turned = [
            [
                np.asarray(image.rotate(angle).resize((OMNIGLOT_SIDE, OMNIGLOT_SIDE), FILTER))
                for image in images
            ]
            for angle in ROTATIONS
        ]
        return 255 - np.array(turned)[:, :, None]


class OmniglotFolders(OmniglotReader):
    """Lake's folders."""

    form = "Lake folders"
    needs = "images_background/ and images_evaluation/ (from the two zips), or both merged"
    homes = ("omniglot-py", "omniglot", "omniglot/data", "omniglot/python", "omniglot/images_all")
    again = "unpack images_background.zip and images_evaluation.zip again"

    def __init__(self, folder: Path, lists: dict[str, list[str]], per_class: int | None) -> None:
        super().__init__(folder, lists, per_class)
        self._folders: dict[str, Path] = {}

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Whether one of Lake's two folders is there, or the first test alphabet if merged."""
        alphabet, _, _ = lists["test"][0].partition("/")
        parts = ("images_background", "images_evaluation", alphabet)
        return any((folder / part).is_dir() for part in parts)

    def files(self) -> list[Path]:
        """The folders of the characters."""
        return sorted(self._find_characters().values())

    def where(self, split: str) -> Path:
        """The folder of all splits."""
        return self.folder

    def scan(self, split: str) -> Mapping[str, Sequence[Path]]:
        """Drawings by ``Alphabet/characterNN``; see `Reader.scan`."""
        folders = self._find_characters()
        return {
            name: [path for path in folders[name].glob("*.png") if not path.name.startswith(".")]
            for name in self.lists[split]
            if name in folders
        }

    def decode(self, item: Path) -> np.ndarray:
        """A drawing (105, 105), ink 0 on ground 255."""
        image = load_image(item)
        if image.mode not in ("1", "L") or image.size != DRAWN_SIZE:
            raise UsageError(
                f"{item}: expected a black-and-white drawing of 105x105, found mode "
                f"{image.mode!r}, {image.width}x{image.height}; unpack its zip again"
            )
        return np.asarray(image.convert("L"))

    def _find_characters(self) -> dict[str, Path]:
        """The folder of every character, by ``Alphabet/characterNN``.

        Raises:
            UsageError: a character is in both of Lake's folders.
        """
        if self._folders:
            return self._folders
        parts = [self.folder / name for name in ("images_background", "images_evaluation")]
        folders: dict[str, Path] = {}
        for part in [part for part in parts if part.is_dir()] or [self.folder]:
            for path in part.glob("*/character*"):
                name = f"{path.parent.name}/{path.name}"
                if name in folders:
                    raise UsageError(
                        f"{path}: class {name!r} is there twice, expected it in one of "
                        "images_background and images_evaluation; unpack the two zips again"
                    )
                folders[name] = path
        self._folders = folders
        return folders

"""Omniglot as folders of drawings (Lake et al. 2015).

``images_background/`` and ``images_evaluation/``, or the two merged into one folder; in them
``Alphabet/characterNN/DDDD_PP.png``, 105x105, black ink on white, one drawing a person.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.readers import Reader, in_order, load_image
from zoo.errors import UsageError

SIZE = (105, 105)
SIDE = 28
ROTATIONS = (0, 90, 180, 270)
# Averages the black and white pixels to grey; a 1-bit image would be resized by nearest neighbour
# and lose strokes.
FILTER = Image.Resampling.BILINEAR


class OmniglotFolders(Reader):
    """Lake's folders; each character turned by 0, 90, 180 and 270 degrees is four classes."""

    form = "Lake folders"
    needs = "images_background/ and images_evaluation/ (from the two zips), or both merged"
    homes = ("omniglot-py", "omniglot", "omniglot/data", "omniglot/python", "omniglot/images_all")
    recipe = f"ink 255, rotated, then {SIDE}x{SIDE} {FILTER.name}, 1"

    def __init__(self, folder: Path, lists: dict[str, list[str]], per_class: int) -> None:
        super().__init__(folder, lists, per_class)
        self._folders: dict[str, Path] = {}
        self._checked: set[str] = set()

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        """Either of Lake's two parts, or the first test alphabet among merged ones."""
        alphabet, _, _ = lists["test"][0].partition("/")
        parts = ("images_background", "images_evaluation", alphabet)
        return any((folder / part).is_dir() for part in parts)

    def files(self) -> list[Path]:
        """The folders of the characters."""
        return sorted(self._find_characters().values())

    def classes(self, split: str) -> list[str]:
        """``Alphabet/characterNN/rotDDD``, four to a character; see `Reader.classes`."""
        folders = self._find_characters()
        if split not in self._checked:
            for character in self.lists[split]:
                if character not in folders:
                    raise UsageError(
                        f"{self.folder}: class {character!r} of the {split} split is missing; "
                        "unpack images_background.zip and images_evaluation.zip there"
                    )
                self._drawings(folders[character])
            self._checked.add(split)
        return [f"{name}/rot{angle:03}" for name in self.lists[split] for angle in ROTATIONS]

    def images(self, split: str) -> Iterator[np.ndarray]:
        """Arrays (20, 1, 28, 28), ink 255 on ground 0, ordered by content; see `Reader.images`.

        Ordered by content, because other forms of Omniglot hold the drawings in other orders.
        """
        self.classes(split)
        folders = [self._find_characters()[name] for name in self.lists[split]]
        for turned in in_order(self._decode, folders):
            yield from turned

    def _find_characters(self) -> dict[str, Path]:
        """The folder of every character, by ``Alphabet/characterNN``."""
        if self._folders:
            return self._folders
        parts = [self.folder / name for name in ("images_background", "images_evaluation")]
        found: dict[str, Path] = {}
        for part in [part for part in parts if part.is_dir()] or [self.folder]:
            for path in part.glob("*/character*"):
                name = f"{path.parent.name}/{path.name}"
                if name in found:
                    raise UsageError(
                        f"{path}: class {name!r} is there twice, expected it in one of "
                        "images_background and images_evaluation; unpack the two zips again"
                    )
                found[name] = path
        self._folders = found
        return found

    def _drawings(self, folder: Path) -> list[Path]:
        drawings = [path for path in folder.glob("*.png") if not path.name.startswith(".")]
        if len(drawings) != self.per_class:
            raise UsageError(
                f"{folder}: expected {self.per_class} drawings, found {len(drawings)}; unpack "
                "its zip again"
            )
        return drawings

    def _decode(self, folder: Path) -> np.ndarray:
        """A character's drawings, turned: uint8 (4, 20, 1, 28, 28)."""
        drawings = [self._load(path) for path in self._drawings(folder)]
        drawings.sort(key=lambda drawing: blake2b(drawing.tobytes()).digest())
        turned = [
            [np.asarray(drawing.rotate(angle).resize((SIDE, SIDE), FILTER)) for drawing in drawings]
            for angle in ROTATIONS
        ]
        return 255 - np.array(turned)[:, :, None]

    def _load(self, path: Path) -> Image.Image:
        image = load_image(path)
        if image.mode not in ("1", "L") or image.size != SIZE:
            raise UsageError(
                f"{path}: expected a black-and-white drawing of 105x105, found mode "
                f"{image.mode!r}, {image.width}x{image.height}; unpack its zip again"
            )
        return image.convert("L")

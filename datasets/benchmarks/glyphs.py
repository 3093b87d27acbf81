"""Glyphs: characters of the DejaVu fonts, twenty distorted drawings each, embedded in the project.

Train holds Latin letters, digits and symbols, val Cyrillic, test Greek, Armenian and Georgian.
``datasets/benchmarks/glyph_rendering.py`` made the file and says how the characters were chosen.
"""

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.datasets.benchmarks.base import Benchmark
from zoo.registry import register_benchmark

if TYPE_CHECKING:
    from zoo.datasets.episodes.image_store import Store


def load() -> dict[str, tuple[list[str], np.ndarray]]:
    """Load the images of each split.

    Returns:
        For ``"train"``, ``"val"`` and ``"test"``, the names of the classes, such as ``"U+0416
        CYRILLIC CAPITAL LETTER ZHE"``, and the images: uint8 of shape ``(classes, 20, 28, 28)``,
        255 for ink and 0 for the ground.
    """
    with np.load(Path(__file__).with_name("glyphs.npz"), allow_pickle=False) as file:
        packed, codes, split = (file[key] for key in ("images_packed", "codepoints", "split"))
    names = [f"U+{code:04X} {unicodedata.name(chr(code))}" for code in codes.tolist()]
    images = np.unpackbits(packed, axis=-1).reshape(*packed.shape[:2], 28, 28) * np.uint8(255)
    return {
        part: ([names[i] for i in np.flatnonzero(split == number)], images[split == number])
        for number, part in enumerate(("train", "val", "test"))
    }


@register_benchmark("glyphs")
class Glyphs(Benchmark):
    """Glyphs of printed letters that come with the code, 28x28: needs no data."""

    key = "glyphs"
    title = "Glyphs"
    image = (1, 28, 28)
    mean = (0.0,)
    std = (1.0,)
    query = 5
    shots = "1"
    quick_seconds = 30
    per_class = 20
    licence = "that of the DejaVu fonts (Bitstream Vera and Arev), free to use and change"

    def lists(self) -> dict[str, list[str]]:
        """The characters of each split."""
        return {split: list(names) for split, (names, _) in load().items()}

    def open(self, data: Path | None = None) -> dict[str, "Store"]:
        """The image store of each split, in memory."""
        from zoo.datasets.episodes.image_store import Store

        return {
            split: Store.from_arrays(names, images[:, :, None])
            for split, (names, images) in load().items()
        }

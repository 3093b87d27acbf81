"""Glyphs: characters of the DejaVu fonts, twenty distorted drawings each, embedded in the project.

Train holds Latin letters, digits and symbols, val Cyrillic, test Greek, Armenian and Georgian.
``datasets/render_glyphs.py`` made the file and says how the characters were chosen.
"""

import unicodedata
from pathlib import Path

import numpy as np


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

"""Render Glyphs, the embedded few-shot image set, from the DejaVu fonts that matplotlib ships.

Run once, as ``python -m zoo.datasets.benchmarks.glyph_rendering``, to write glyphs.npz beside it.
The file is committed: although the random numbers are seeded, font rasterisers differ between
releases, and only the file gives everybody the same pixels.

A class is one character. The scripts are gone through in the order of ``SCRIPT_SPLITS``, and a
character that looks like one already kept (a twin), of whatever split, is left out. So a shape
that several scripts share stays with basic Latin, in train with its accented relatives. What
Latin does not have goes first to the scripts with the fewest characters: Cyrillic (val), then
Greek, Armenian and Georgian (test). Other Latin letters and symbols, of which there are plenty,
come last.
"""

import argparse
import itertools
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageFilter, ImageFont

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
# Not the serif italics: there т is drawn as m, and и as u.
STYLES = ["Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique"]
STYLES += ["Serif", "Serif-Bold", "SansMono", "SansMono-Bold"]
GLYPH_SPLITS = ["train", "val", "test"]
SCRIPT_SPLITS = {
    "basic": "train",
    "cyrillic": "val",
    "greek": "test",
    "armenian": "test",
    "georgian": "test",
    "other": "train",
}
UNSEEN_TWINS = "νχѵ"  # twins of v and x that `likeness` does not recognise
N_DRAWINGS = 20  # of each class
SIZE = 28  # pixels, side of an image
INK = 20  # pixels, longer side of the ink
FINE = 4  # dots along a pixel, in the fine pictures that images are made from
ALIKE = 0.72  # likeness from which two characters are twins
ALIKE_CASE = 0.5  # likeness from which the two cases of a letter are twins
LEAST_INK = 42  # pixels
LEGIBLE = 0.7  # least overlap of image and fine picture; below it a character is a blot
# The largest distortions of a drawing.
ROTATION = 0.18  # radians
SHEAR = 0.18
STRETCH = 0.12  # logarithm of a factor
SHIFT = 1.25  # pixels
WARP = 0.65  # pixels, standard deviation


@cache
def coverage(style: str) -> frozenset[int]:
    """The code points that a DejaVu style has."""
    return frozenset(FT2Font(str(FONTS / f"DejaVu{style}.ttf")).get_charmap())


@cache
def font(style: str) -> ImageFont.FreeTypeFont:
    """A DejaVu style in a large size."""
    path = str(FONTS / f"DejaVu{style}.ttf")
    return ImageFont.truetype(path, 160, layout_engine=ImageFont.Layout.BASIC)


def source(char: str) -> str | None:
    """The key of ``SCRIPT_SPLITS`` that a character is a candidate for, if any."""
    script = unicodedata.name(char, "-").split()[0].lower()
    category, parts = unicodedata.category(char), unicodedata.decomposition(char)
    if char.isascii() and char.isalnum():
        return "basic"
    if char in UNSEEN_TWINS:
        return None
    if parts.startswith("<"):  # ligatures, circled digits, ...
        return None
    if parts and script in SCRIPT_SPLITS:  # accented letters of val and test
        return None
    if category in ("Lu", "Ll", "Lo"):  # letters
        if script == "latin":
            return "other"
        return script if script in SCRIPT_SPLITS else None
    if category not in ("Sm", "Sc", "So", "Nl") or script in SCRIPT_SPLITS:  # not a symbol
        return None
    blocks = ((0x21, 0x180), (0x2000, 0x2500), (0x25A0, 0x2800), (0x2900, 0x2C00))
    return "other" if any(low <= ord(char) < high for low, high in blocks) else None


def thicken(fine: Image.Image, dots: int) -> Image.Image:
    """A fine picture, its strokes thickened by some dots on each side, or thinned (dots < 0)."""
    if dots == 0:
        return fine
    width = 2 * abs(dots) + 1
    return fine.filter(ImageFilter.MaxFilter(width) if dots > 0 else ImageFilter.MinFilter(width))


@cache
def page(char: str, style: str = "Sans", dots: int = 0) -> Image.Image:
    """The fine grey picture of a character: its ink scaled to one size, centred and thickened."""
    mask = font(style).getmask(char, mode="L")
    ink = Image.frombytes("L", mask.size, bytes(mask))
    ink = ink.crop(ink.getbbox() or (0, 0, 1, 1))
    width, height = (max(1, round(s * INK * FINE / max(ink.size))) for s in ink.size)
    fine = Image.new("L", (SIZE * FINE, SIZE * FINE))
    corner = ((SIZE * FINE - width) // 2, (SIZE * FINE - height) // 2)
    fine.paste(ink.resize((width, height), Image.Resampling.BOX), corner)
    return thicken(fine, dots)


def shrink(fine: Image.Image, level: float = 0.5) -> np.ndarray:
    """A fine picture as a boolean 28×28 image: where ink covers `level` of a pixel or more."""
    return np.asarray(fine.reduce(FINE)) >= 255 * level


def canonical(char: str, dots: int = 0, stretch: float = 1.0) -> np.ndarray:
    """A character's undistorted image, boolean 28×28.

    Args:
        char: the character.
        dots: that its strokes are thickened by on each side.
        stretch: width over height, compared with those of the character.
    """
    fine = page(char, dots=dots)
    if stretch != 1:
        middle = SIZE * FINE / 2
        x, y = stretch**-0.5, stretch**0.5
        matrix = (x, 0, middle * (1 - x), 0, y, middle * (1 - y))
        fine = fine.transform(fine.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return shrink(fine)


def likeness(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """How alike the characters of each pair are, from 0 to 1: (len(first), len(second)).

    It is the intersection over union of their canonical images, the largest over changes of the
    second one: shifts by a pixel, thinner or thicker strokes, and a stretch by a fifth either way.
    """
    a = np.stack([canonical(char) for char in first]).reshape(len(first), -1).astype(np.float32)
    best = np.zeros((len(first), len(second)), np.float32)
    for dots, stretch in itertools.product((-2, 0, 2), (1 / 1.2, 1.0, 1.2)):
        images = np.stack([canonical(char, dots, stretch) for char in second]).astype(np.float32)
        for shift in itertools.product((-1, 0, 1), repeat=2):
            b = np.roll(images, shift, (1, 2)).reshape(len(second), -1)
            both = a @ b.T
            either = a.sum(1)[:, None] + b.sum(1) - both
            np.maximum(best, both / np.maximum(either, 1), out=best)
    return best


def twins(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """Whether the characters of each pair are too alike to be two classes."""
    first_letters = np.array([char.lower() for char in first])
    second_letters = np.array([char.lower() for char in second])
    two_cases = first_letters[:, None] == second_letters  # of one letter
    alike = np.maximum(likeness(first, second), likeness(second, first).T)
    return alike >= np.where(two_cases, ALIKE_CASE, ALIKE)


def legible(char: str) -> bool:
    """Whether a character is neither blank, nor mere dots or a dash, nor too fine for 28×28."""
    fine, image = np.asarray(page(char)) > 127, canonical(char)
    if image.sum() < LEAST_INK:
        return False
    enlarged = np.kron(image, np.ones((FINE, FINE))) > 0
    return bool((fine & enlarged).sum() >= LEGIBLE * (fine | enlarged).sum())


def choose() -> list[tuple[str, str]]:
    """The character and the split of each class, by split and code point."""
    candidates = [(chr(code), source(chr(code))) for code in sorted(coverage("Sans"))]
    candidates = [(char, script) for char, script in candidates if script and legible(char)]
    candidates.sort(key=lambda candidate: list(SCRIPT_SPLITS).index(str(candidate[1])))
    chars = [char for char, _ in candidates]
    are_twins, kept = twins(chars, chars), np.zeros(len(chars), bool)
    for i in range(len(chars)):
        kept[i] = not are_twins[i, kept].any()
    classes = [(chars[i], SCRIPT_SPLITS[str(candidates[i][1])]) for i in np.flatnonzero(kept)]
    return sorted(classes, key=lambda pair: (GLYPH_SPLITS.index(pair[1]), pair[0]))


def draw_character(char: str, style: str, rng: np.random.Generator) -> np.ndarray:
    """One drawing of a character, distorted at random: a boolean 28×28 image."""
    side, middle = SIZE * FINE, (SIZE * FINE - 1) / 2
    angle, shear = rng.uniform(-ROTATION, ROTATION), rng.uniform(-SHEAR, SHEAR)
    x_factor, y_factor = np.exp(rng.uniform(-STRETCH, STRETCH, 2))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1 / x_factor, shear], [0, 1 / y_factor]])
    # Where in the undistorted picture each dot comes from, (2, side, side): x and y.
    origin = np.stack(np.meshgrid(*[np.arange(side) - middle] * 2))
    origin = np.einsum("ij,jyx->iyx", matrix, origin) + middle
    origin += FINE * rng.uniform(-SHIFT, SHIFT, (2, 1, 1))
    for i, field in enumerate(rng.normal(0, WARP * FINE, (2, 5, 5)).astype(np.float32)):
        origin[i] += Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC)
    # Bilinear interpolation between the four dots around the origin.
    fine = np.pad(np.asarray(page(char, style), np.float32), 1)
    origin = np.clip(origin + 1, 0, side + 0.999)
    (x, y), (u, v) = origin.astype(int), origin % 1
    above = fine[y, x] * (1 - u) + fine[y, x + 1] * u
    below = fine[y + 1, x] * (1 - u) + fine[y + 1, x + 1] * u
    moved = Image.fromarray(np.rint(above * (1 - v) + below * v).astype(np.uint8))
    ink = (np.asarray(moved) > 127).sum() / FINE**2  # pixels
    dots = int(rng.integers(-2, 2))
    image = shrink(thicken(moved, dots), 0.4)
    while image.sum() < 0.7 * ink:  # too thin: strokes are lost
        dots += 1
        image = shrink(thicken(moved, dots), 0.4)
    return image


def render(char: str) -> np.ndarray:
    """The drawings of a class, (N_DRAWINGS, 28, 28) bool; the styles that have it take turns."""
    rng = np.random.Generator(np.random.PCG64(ord(char)))
    styles = rng.permutation([style for style in STYLES if ord(char) in coverage(style)])
    return np.stack([draw_character(char, styles[i % len(styles)], rng) for i in range(N_DRAWINGS)])


def main() -> None:
    """Choose the classes, render them and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("glyphs.npz"))
    out = parser.parse_args().out
    classes = choose()
    images = np.stack([render(char) for char, _ in classes])
    np.savez_compressed(
        out,
        images_packed=np.packbits(images.reshape(*images.shape[:2], -1), axis=-1),
        codepoints=np.array([ord(char) for char, _ in classes], np.int32),
        split=np.array([GLYPH_SPLITS.index(split) for _, split in classes], np.uint8),
    )
    counts = {name: sum(split == name for _, split in classes) for name in GLYPH_SPLITS}
    print(f"{out.name}: {counts}, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

"""Render Glyphs, the embedded few-shot image set, from the DejaVu fonts that matplotlib ships.

Run once, as ``python -m zoo.datasets.benchmarks.glyph_rendering``. It writes glyphs.npz beside it,
which is committed: the random numbers are seeded, but font rasterisers differ between releases, so
it is the file and not this script that gives everybody the same pixels.

A class is one character. ``SCRIPT_SPLITS`` lists the scripts in order of precedence. A character
is left out when it is the twin of one already kept, of whatever split. So a shape that several
scripts share stays with basic Latin, in train, where its accented relatives are anyway; after
that it goes to the scripts with the fewest to spare, Cyrillic (val), then Greek, Armenian and
Georgian (test); other Latin and the symbols, of which there are plenty, take what is left.
"""

import argparse
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
SCRIPT_SPLITS = {"basic": "train", "cyrillic": "val", "greek": "test", "armenian": "test"}
SCRIPT_SPLITS |= {"georgian": "test", "other": "train"}
UNSEEN_TWINS = "νχѵ"  # twins of v and x that the measure does not see
N_DRAWINGS, SIZE, FINE, INK = 20, 28, 4, 20  # side; dots a pixel while drawing; ink's longer side
ALIKE, ALIKE_CASE = 0.72, 0.5  # likeness from which two characters, or two cases, are twins
LEAST_INK = 42  # pixels
LEGIBLE = 0.7  # overlap with its fine picture below which a character is a blot at 28×28
ROTATION, SHEAR, STRETCH, SHIFT, WARP = 0.18, 0.18, 0.12, 1.25, 0.65  # radians, -, log, px, px


@cache
def coverage(style: str) -> frozenset[int]:
    """The code points that a DejaVu style has."""
    return frozenset(FT2Font(str(FONTS / f"DejaVu{style}.ttf")).get_charmap())


@cache
def font(style: str) -> ImageFont.FreeTypeFont:
    """A DejaVu style, large."""
    path = str(FONTS / f"DejaVu{style}.ttf")
    return ImageFont.truetype(path, 160, layout_engine=ImageFont.Layout.BASIC)


def source(char: str) -> str | None:
    """The entry of ``SCRIPT_SPLITS`` that a character is a candidate for, if any."""
    script = unicodedata.name(char, "-").split()[0].lower()
    kind, parts = unicodedata.category(char), unicodedata.decomposition(char)
    if char.isascii() and char.isalnum():
        return "basic"
    if parts.startswith("<") or (parts and script in SCRIPT_SPLITS) or char in UNSEEN_TWINS:
        return None  # ligatures, circled digits, ...; accented letters of val and test
    if kind in ("Lu", "Ll", "Lo"):
        return script if script in SCRIPT_SPLITS else "other" if script == "latin" else None
    if kind not in ("Sm", "Sc", "So", "Nl") or script in SCRIPT_SPLITS:
        return None
    blocks = ((0x21, 0x180), (0x2000, 0x2500), (0x25A0, 0x2800), (0x2900, 0x2C00))
    return "other" if any(low <= ord(char) < high for low, high in blocks) else None


def thicken(fine: Image.Image, dots: int) -> Image.Image:
    """A fine picture with its strokes thickened by some dots a side, or thinned."""
    kind = ImageFilter.MaxFilter if dots > 0 else ImageFilter.MinFilter
    return fine.filter(kind(2 * abs(dots) + 1)) if dots else fine


@cache
def page(char: str, style: str = "Sans", dots: int = 0) -> Image.Image:
    """A character's fine grey picture, its ink centred, scaled to one side and thickened."""
    mask = font(style).getmask(char, mode="L")
    ink = Image.frombytes("L", mask.size, bytes(mask))
    ink = ink.crop(ink.getbbox() or (0, 0, 1, 1))
    width, height = (max(1, round(s * INK * FINE / max(ink.size))) for s in ink.size)
    fine = Image.new("L", (SIZE * FINE, SIZE * FINE))
    corner = ((SIZE * FINE - width) // 2, (SIZE * FINE - height) // 2)
    fine.paste(ink.resize((width, height), Image.Resampling.BOX), corner)
    return thicken(fine, dots)


def shrink(fine: Image.Image, level: float = 0.5) -> np.ndarray:
    """A fine picture as a boolean 28×28 image: where the ink covers some part of a pixel."""
    return np.asarray(fine.reduce(FINE)) >= 255 * level


def canonical(char: str, dots: int = 0, stretch: float = 1.0) -> np.ndarray:
    """A character's plain image, perhaps with thicker strokes, perhaps wider and less high."""
    fine, x, y, middle = page(char, dots=dots), stretch**-0.5, stretch**0.5, SIZE * FINE / 2
    matrix = (x, 0, middle * (1 - x), 0, y, middle * (1 - y))
    if stretch != 1:
        fine = fine.transform(fine.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return shrink(fine)


def likeness(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """How alike the two characters of each pair are, at their most alike, from 0 to 1.

    It is the intersection over union of the canonical images, the best over shifts of a pixel,
    and over the second one with its strokes thinner or thicker, stretched by a fifth either way.
    """
    a = np.stack([canonical(char) for char in first]).reshape(len(first), -1).astype(np.float32)
    best = np.zeros((len(first), len(second)), np.float32)
    for dots, stretch in ((d, s) for d in (-2, 0, 2) for s in (1 / 1.2, 1.0, 1.2)):
        images = np.stack([canonical(char, dots, stretch) for char in second]).astype(np.float32)
        for shift in ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)):
            b = np.roll(images, shift, (1, 2)).reshape(len(second), -1)
            both = a @ b.T
            np.maximum(best, both / np.maximum(a.sum(1)[:, None] + b.sum(1) - both, 1), out=best)
    return best


def twins(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """Whether the two characters of each pair are too alike to be two classes."""
    case = np.array([c.lower() for c in first])[:, None] == np.array([c.lower() for c in second])
    alike = np.maximum(likeness(first, second), likeness(second, first).T)
    return alike >= np.where(case, ALIKE_CASE, ALIKE)


def legible(char: str) -> bool:
    """Whether a character is neither blank, nor mere dots or a dash, nor too fine for 28×28."""
    fine, image = np.asarray(page(char)) > 127, canonical(char)
    enough, image = image.sum() >= LEAST_INK, np.kron(image, np.ones((FINE, FINE))) > 0
    return bool(enough and (fine & image).sum() >= LEGIBLE * (fine | image).sum())


def choose() -> list[tuple[str, str]]:
    """The character and the split of each class, by split and code point."""
    found = [(chr(code), source(chr(code))) for code in sorted(coverage("Sans"))]
    found = [(char, name) for char, name in found if name and legible(char)]
    found.sort(key=lambda pair: list(SCRIPT_SPLITS).index(str(pair[1])))
    chars = [char for char, _ in found]
    twin, kept = twins(chars, chars), np.zeros(len(chars), bool)
    for i in range(len(chars)):
        kept[i] = not twin[i, kept].any()
    classes = [(chars[i], SCRIPT_SPLITS[str(found[i][1])]) for i in np.flatnonzero(kept)]
    return sorted(classes, key=lambda pair: (GLYPH_SPLITS.index(pair[1]), pair[0]))


def draw_character(char: str, style: str, rng: np.random.Generator) -> np.ndarray:
    """One drawing of a character, distorted at random: a boolean 28×28 image."""
    side, middle = SIZE * FINE, (SIZE * FINE - 1) / 2
    angle, shear = rng.uniform(-ROTATION, ROTATION), rng.uniform(-SHEAR, SHEAR)
    wide, high = np.exp(rng.uniform(-STRETCH, STRETCH, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1 / wide, shear], [0, 1 / high]])
    where = np.stack(np.meshgrid(*[np.arange(side) - middle] * 2))  # x, y of each dot
    where = np.einsum("ij,jyx->iyx", matrix, where) + middle
    where += FINE * rng.uniform(-SHIFT, SHIFT, (2, 1, 1))
    for i, field in enumerate(rng.normal(0, WARP * FINE, (2, 5, 5)).astype(np.float32)):
        where[i] += Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC)
    fine = np.pad(np.asarray(page(char, style), np.float32), 1)
    where = np.clip(where + 1, 0, side + 0.999)
    (x, y), (u, v) = where.astype(int), where % 1
    above = fine[y, x] * (1 - u) + fine[y, x + 1] * u
    below = fine[y + 1, x] * (1 - u) + fine[y + 1, x + 1] * u
    moved = Image.fromarray(np.rint(above * (1 - v) + below * v).astype(np.uint8))
    ink, dots = (np.asarray(moved) > 127).sum() / FINE**2, int(rng.integers(-2, 2))
    while (
        image := shrink(thicken(moved, dots), 0.4)
    ).sum() < 0.7 * ink:  # strokes have gone: too thin
        dots += 1
    return image


def render(char: str) -> np.ndarray:
    """A class: the drawings of a character, the styles that have it taking turns."""
    rng = np.random.Generator(np.random.PCG64(ord(char)))
    styles = rng.permutation([style for style in STYLES if ord(char) in coverage(style)])
    return np.stack([draw_character(char, styles[i % len(styles)], rng) for i in range(N_DRAWINGS)])


def main() -> None:
    """Choose the classes, render them and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("glyphs.npz"))
    out, classes = parser.parse_args().out, choose()
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

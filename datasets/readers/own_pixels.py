"""Somebody's own images as viewers show them: upright, in 8-bit colour, on white."""

import numpy as np
from PIL import Image, ImageOps

DEEP_MODES = ("I", "F")  # and those that begin with "I;16": more than 8 bits a pixel
WHITES = (1, 2**8 - 1, 2**12 - 1, 2**16 - 1)  # of floats, and of the usual numbers of bits


def as_seen(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB.

    Its EXIF orientation is applied, what is transparent is white, and grey of more than 8 bits is
    scaled (see `to_8_bits`).
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in DEEP_MODES or image.mode.startswith("I;16"):
        image = Image.fromarray(to_8_bits(np.asarray(image)))
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return image.convert("RGB")


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Grey values as uint8.

    White is 1, 255, 4095 or 65535, the smallest of these that no value exceeds; black is 0. If a
    value is negative or exceeds 65535, the smallest and largest values of the image are black and
    white instead. Infinite values and those that are no number count as 0.
    """
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, high = values.min(), values.max()
    if low >= 0 and high <= WHITES[-1]:
        low, high = 0, next(white for white in WHITES if high <= white)
    return np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)

"""Episodes as pictures: a row a class, its support on the left, its queries on the right."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

WIDTH = 1000  # pixels that the images fill, about; small ones are enlarged by a whole number
LABEL, HEAD, MARGIN = 190, 64, 14  # pixels: names on the left, titles above, what surrounds all
GAP, DIVIDE = 4, 28  # pixels between images, and between support and queries
DPI = 100
PAPER = 255  # white


def episode(
    support: np.ndarray, query: np.ndarray, names: Sequence[str], title: str, note: str = ""
) -> Figure:
    """Draw one episode, each pixel a square of whole pixels.

    Args:
        support: uint8 (N, K, C, H, W), of one channel or of red, green and blue.
        query: uint8 (N, Q, C, H, W).
        names: of the N classes, each in one or more lines.
        title: stands above.
        note: stands below the title, smaller.
    """
    shot, side = support.shape[1], support.shape[-1]
    columns = shot + query.shape[1]
    scale = max(1, round(WIDTH / (columns * side)))
    left, right = sheet(support, scale), sheet(query, scale)
    divide = np.full((len(left), DIVIDE, 3), PAPER, np.uint8)
    canvas = np.concatenate([left, divide, right], 1)
    height, width = canvas.shape[:2]
    full_width = LABEL + width + MARGIN
    full_height = HEAD + height + MARGIN

    figure = Figure((full_width / DPI, full_height / DPI), dpi=DPI, facecolor="white")

    def write(x: float, y: float, words: str, size: float, **style: Any) -> None:
        """Words at pixel (x, y), counted from the top left."""
        figure.text(x / full_width, 1 - y / full_height, words, fontsize=size, **style)

    axes = figure.add_axes(
        (LABEL / full_width, MARGIN / full_height, width / full_width, height / full_height)
    )
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    write(MARGIN, 22, title, 12, weight="bold")
    write(MARGIN, 40, note, 8, color="0.4")
    write(LABEL, HEAD - 6, "support", 10)
    write(LABEL + left.shape[1] + DIVIDE, HEAD - 6, "queries", 10)
    pitch = (height + GAP) / len(names)
    for row, name in enumerate(names):
        first, _, rest = name.partition("\n")
        middle = HEAD + row * pitch + (pitch - GAP) / 2
        head, foot = lines(first, 20, pitch / 32), lines(rest, 24, pitch / 28)
        write(LABEL - 10, middle, head, 11, ha="right", va="bottom" if foot else "center")
        write(LABEL - 10, middle + 3, foot, 8, ha="right", va="top", color="0.3")
    return figure


def lines(text: str, width: int, most: float) -> str:
    """Text wrapped at a number of characters, of which at most so many lines are left."""
    parts = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    return "\n".join(parts[: max(1, int(most))])


def sheet(images: np.ndarray, scale: int) -> np.ndarray:
    """Images (N, n, C, H, W), enlarged, side by side: uint8 (height, width, 3)."""
    images = images.repeat(scale, 3).repeat(scale, 4)
    rows, columns, channels, height, width = images.shape
    padded = np.full((rows, columns, channels, height + GAP, width + GAP), PAPER, np.uint8)
    padded[..., :height, :width] = images
    flat = padded.transpose(0, 3, 1, 4, 2).reshape(rows * (height + GAP), -1, channels)
    flat = flat[:-GAP, :-GAP]
    return np.ascontiguousarray(np.broadcast_to(flat, (*flat.shape[:2], 3)))

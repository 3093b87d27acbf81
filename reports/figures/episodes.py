"""Episodes as pictures, and what was predicted of them.

An episode of classes: a row a class, its support on the left, its queries on the right.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure

from zoo.reports.figures.style import COLOURS, shortened

PIXELS_WIDE = 1000  # pixels that the images fill, about; small ones are enlarged by a whole number
LABEL, HEAD, MARGIN = 190, 64, 14  # pixels: names on the left, titles above, what surrounds all
GAP, DIVIDE = 4, 28  # pixels between images, and between support and queries
SCREEN_DPI = 100
PAPER = 255  # white
BAR = 118  # pixels that a scale of colours takes on the right
CAPTION = 16  # pixels below an image for what it was taken for
CAPTIONED = 80  # pixels a side that an image has at least above such words
LETTER = 5.5  # pixels that a letter of them takes, about
FRAME = 3  # pixels that a frame takes of an image
WRONG = COLOURS[1]
IMAGE = 140  # pixels a side of a completed image, about
UNSEEN = (0.55, 0.6, 0.85)  # colour of pixels that were not shown
VARIANCE = colormaps["viridis"]


def draw_episode(
    support: np.ndarray,
    query: np.ndarray,
    names: Sequence[str],
    title: str,
    note: str = "",
    mistaken_for: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Draw one episode, each pixel a square of whole pixels.

    Args:
        support: uint8 (N, K, C, H, W), of one channel or of red, green and blue.
        query: uint8 (N, Q, C, H, W).
        names: of the N classes, each in one or more lines.
        title: stands above.
        note: stands below the title, smaller.
        mistaken_for: the class that each query was wrongly predicted to be, N rows of Q, empty
            where it was right; stands below the query, which gets a frame. None: nothing was
            predicted.
    """
    shot, side = support.shape[1], support.shape[-1]
    columns = shot + query.shape[1]
    below = 0 if mistaken_for is None else CAPTION
    scale = max(1, round(PIXELS_WIDE / (columns * side)))
    if mistaken_for is not None:  # so that a name fits below
        scale = max(scale, -(-CAPTIONED // side))
    left, right = image_sheet(support, scale, below), image_sheet(query, scale, below)
    divide = np.full((len(left), DIVIDE, 3), PAPER, np.uint8)
    canvas = np.concatenate([left, divide, right], 1)
    start, size = left.shape[1] + DIVIDE, side * scale
    wrong = [
        (row * (size + below + GAP), start + column * (size + GAP), name)
        for row, line in enumerate(mistaken_for or ())
        for column, name in enumerate(line)
        if name
    ]
    for y, x, _ in wrong:
        frame(canvas[y : y + size, x : x + size])
    figure, write = framed(canvas)
    write(MARGIN, 22, title, 12, weight="bold")
    write(MARGIN, 40, note, 8, color="0.4")
    write(LABEL, HEAD - 6, "support", 10)
    said = "queries" if mistaken_for is None else "queries; framed: taken for the class below"
    write(LABEL + start, HEAD - 6, said, 10)
    for y, x, name in wrong:
        text = shortened(name, int(size / LETTER))
        middle = LABEL + x + size / 2
        write(middle, HEAD + y + size + 3, text, 7, ha="center", va="top", color=WRONG)
    pitch = (len(canvas) + GAP) / len(names)
    for row, name in enumerate(names):
        first, _, rest = name.partition("\n")
        middle = HEAD + row * pitch + (pitch - GAP - below) / 2
        head, foot = wrapped_lines(first, 20, pitch / 32), wrapped_lines(rest, 24, pitch / 28)
        write(LABEL - 10, middle, head, 11, ha="right", va="bottom" if foot else "center")
        write(LABEL - 10, middle + 3, foot, 8, ha="right", va="top", color="0.3")
    return figure


def frame(image: np.ndarray) -> None:
    """Draw a frame over the edge of an image (height, width, 3)."""
    colour = [round(255 * part) for part in to_rgb(WRONG)]
    for edge in (image[:FRAME], image[-FRAME:], image[:, :FRAME], image[:, -FRAME:]):
        edge[:] = colour


def framed(canvas: np.ndarray, right: int = MARGIN) -> tuple[Figure, Callable[..., None]]:
    """A picture (height, width, 3) with room for names on its left and for titles above.

    Returns:
        The figure, and what writes words of a size into it at a pixel counted from the top left.
    """
    height, width = canvas.shape[:2]
    full_width, full_height = LABEL + width + right, HEAD + height + MARGIN
    figure = Figure(
        (full_width / SCREEN_DPI, full_height / SCREEN_DPI), dpi=SCREEN_DPI, facecolor="white"
    )

    def write(x: float, y: float, words: str, size: float, **style: Any) -> None:
        figure.text(x / full_width, 1 - y / full_height, words, fontsize=size, **style)

    axes = figure.add_axes(
        (LABEL / full_width, MARGIN / full_height, width / full_width, height / full_height)
    )
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure, write


def wrapped_lines(text: str, width: int, most: float) -> str:
    """Text wrapped at a number of characters, of which at most so many lines are left."""
    parts = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    return "\n".join(parts[: max(1, int(most))])


def image_sheet(images: np.ndarray, scale: int, below: int = 0) -> np.ndarray:
    """Images (N, n, C, H, W), enlarged, side by side: uint8 (height, width, 3).

    Each has so many pixels of paper `below`.
    """
    images = images.repeat(scale, 3).repeat(scale, 4)
    rows, columns, channels, height, width = images.shape
    pitch = height + below + GAP
    padded = np.full((rows, columns, channels, pitch, width + GAP), PAPER, np.uint8)
    padded[..., :height, :width] = images
    flat = padded.transpose(0, 3, 1, 4, 2).reshape(rows * pitch, -1, channels)
    flat = flat[:-GAP, :-GAP]
    return np.ascontiguousarray(np.broadcast_to(flat, (*flat.shape[:2], 3)))


class Fit(NamedTuple):
    """A function of one number, and what is predicted of it: each x and y, (2, n)."""

    context: np.ndarray
    query: np.ndarray
    curve: np.ndarray  # predicted means, x ascending
    sd: np.ndarray | None  # (n,) of the curve


def draw_fits(fits: Sequence[Fit], title: str) -> Figure:
    """Draw functions beside what is predicted of them, with a band of two deviations."""
    columns = math.ceil(len(fits) ** 0.5)
    rows = -(-len(fits) // columns)
    figure = Figure((max(4.2 * columns, 7), 2.8 * rows + 1), dpi=SCREEN_DPI, layout="constrained")
    for number, fit in enumerate(fits):
        axes = figure.add_subplot(rows, columns, number + 1)
        if fit.sd is not None:
            band = fit.curve[1] - 2 * fit.sd, fit.curve[1] + 2 * fit.sd
            name = "mean ± 2 standard deviations"
            axes.fill_between(fit.curve[0], *band, color="C0", alpha=0.2, lw=0, label=name)
        axes.plot(*fit.curve, color="C0", lw=1.8, label="predicted mean")
        axes.plot(*fit.query, ".", color="0.45", ms=3.5, label="true queries")
        axes.plot(*fit.context, "o", color="C3", ms=6, mec="white", label="context")
        axes.set_title(f"test task {number}", fontsize=10)
        axes.set_xlabel("x")
        axes.set_ylabel("y")
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(wrapped_lines(title, 38 * columns, 3), fontsize=12, weight="bold")
    return figure


def draw_completions(
    seen: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray | None,
    shots: Sequence[int],
    title: str,
) -> Figure:
    """Draw images as completed from some of their pixels: three rows an image, a column a number.

    Args:
        seen: (T, columns, H, W, C) in [0, 1]; nan for what was not.
        mean: likewise, predicted.
        variance: likewise; the mean over channels is drawn. None where there is none.
        shots: how many pixels were seen, for each column.
        title: stands above.
    """
    side = seen.shape[2]
    scale = max(1, round(IMAGE / side))
    hidden = np.isnan(seen).any(-1, keepdims=True)
    rows = {"context": np.where(hidden, UNSEEN, np.nan_to_num(seen)), "predicted mean": mean}
    top = 1.0
    if variance is not None:
        top = float(variance.mean(-1).max())
        rows["variance"] = VARIANCE(variance.mean(-1) / top)[..., :3]
    tripled = [np.broadcast_to(row, (*row.shape[:4], 3)) for row in rows.values()]
    bytes_ = (np.stack(tripled, 1).clip(0, 1) * 255).round().astype(np.uint8)
    parts = [image_sheet(task.transpose(0, 1, 4, 2, 3), scale) for task in bytes_]
    divide = np.full((DIVIDE, parts[0].shape[1], 3), PAPER, np.uint8)
    canvas = np.concatenate([p for part in parts for p in (part, divide)][:-1])
    figure, write = framed(canvas, MARGIN if variance is None else BAR)
    across = (LABEL + canvas.shape[1] + BAR) // 11  # characters
    write(MARGIN, 6, wrapped_lines(title, across, 2), 11, weight="bold", va="top")
    pitch = side * scale + GAP
    for column, shot in enumerate(shots):
        words = f"all {shot} pixels" if column == len(shots) - 1 else f"{shot} pixels"
        middle = LABEL + column * pitch + side * scale / 2
        write(middle, HEAD - 6, words, 10, ha="center")
    for task in range(len(parts)):
        for row, name in enumerate(rows):
            y = HEAD + task * (parts[0].shape[0] + DIVIDE) + row * pitch + side * scale / 2
            words = f"test task {task}: {name}" if not row else name
            write(LABEL - 10, y, words, 10, ha="right", va="center")
    if variance is not None:
        scale_of_colours(figure, LABEL + canvas.shape[1] + 20, parts[0].shape[0], top)
    return figure


def scale_of_colours(figure: Figure, left: int, long: int, top: float) -> None:
    """What colours say of variances from 0 to `top`: below the titles, at and over some pixels."""
    width, height = figure.get_size_inches() * SCREEN_DPI
    axes = figure.add_axes((left / width, 1 - (HEAD + long) / height, 16 / width, long / height))
    figure.colorbar(ScalarMappable(Normalize(0, top), VARIANCE), cax=axes, label="variance")

"""Pictures of episodes, and of predictions for regression and completion tasks.

In an episode of images each row is a class, with its support on the left, its queries on the right.
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

# All sizes are in pixels of the picture.
PIXELS_WIDE = 1000  # about the width of a row of images, which are enlarged by a whole number
LABEL = 190  # width of the names on the left
HEAD = 64  # height of the titles above
MARGIN = 14  # around all
GAP = 4  # between images
DIVIDE = 28  # between support and queries
BAR = 118  # width of a scale of colours on the right
CAPTION = 16  # height of the words below an image
CAPTIONED = 80  # the least side of an image with words below it
LETTER = 6.3  # about the width of a letter of these words
FRAME = 3  # width of the frame of a wrong prediction
IMAGE = 140  # about the side of a completed image
SCREEN_DPI = 100
PAPER = 255  # white
WRONG = COLOURS[1]
UNSEEN = (0.55, 0.6, 0.85)  # colour of pixels that the learner was not given
VARIANCE = colormaps["viridis"]


def draw_episode(
    support: np.ndarray,
    query: np.ndarray,
    names: Sequence[str],
    title: str,
    note: str = "",
    mistaken_for: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Draw one episode; each pixel of an image becomes a square of whole pixels.

    Args:
        support: uint8 (N, K, C, H, W), C = 1 or 3.
        query: uint8 (N, Q, C, H, W).
        names: of the N classes; lines after the first are printed smaller.
        title: stands above.
        note: stands below the title, smaller.
        mistaken_for: N rows of Q names, the class that each query was wrongly predicted to be, ""
            where the prediction was right. The name is written below the query, which gets a
            frame. None: there are no predictions.
    """
    shot, side = support.shape[1], support.shape[-1]
    columns = shot + query.shape[1]
    below = 0 if mistaken_for is None else CAPTION
    scale = max(1, round(PIXELS_WIDE / (columns * side)))
    if mistaken_for is not None:  # so that a name fits below
        scale = max(scale, math.ceil(CAPTIONED / side))
    left, right = image_sheet(support, scale, below), image_sheet(query, scale, below)
    white = np.full((len(left), DIVIDE, 3), PAPER, np.uint8)
    canvas = np.concatenate([left, white, right], 1)
    start = left.shape[1] + DIVIDE  # of the queries
    size = side * scale  # of an image
    wrong = []  # top, left and predicted class of each wrong query
    for row, predicted in enumerate(mistaken_for or ()):
        for column, name in enumerate(predicted):
            if name:
                wrong.append((row * (size + below + GAP), start + column * (size + GAP), name))
    for y, x, _ in wrong:
        frame(canvas[y : y + size, x : x + size])
    figure, write = framed(canvas)
    write(MARGIN, 22, title, 12, weight="bold")
    write(MARGIN, 40, note, 8, color="0.4")
    write(LABEL, HEAD - 6, "support", 10)
    head = "queries" if mistaken_for is None else "queries; framed: taken for the class below"
    write(LABEL + start, HEAD - 6, head, 10)
    for y, x, name in wrong:
        text = shortened(name, int(size / LETTER))
        middle = LABEL + x + size / 2
        write(middle, HEAD + y + size + 3, text, 7, ha="center", va="top", color=WRONG)
    row_height = (len(canvas) + GAP) / len(names)
    for row, name in enumerate(names):
        first, _, rest = name.partition("\n")
        middle = HEAD + row * row_height + (row_height - GAP - below) / 2
        name_lines = wrapped_lines(first, 20, row_height / 32)
        small_lines = wrapped_lines(rest, 24, row_height / 28)
        alignment = "bottom" if small_lines else "center"
        write(LABEL - 10, middle, name_lines, 11, ha="right", va=alignment)
        write(LABEL - 10, middle + 3, small_lines, 8, ha="right", va="top", color="0.3")
    return figure


def frame(image: np.ndarray) -> None:
    """Draw a frame over the edge of an image (height, width, 3)."""
    colour = [round(255 * part) for part in to_rgb(WRONG)]
    for edge in (image[:FRAME], image[-FRAME:], image[:, :FRAME], image[:, -FRAME:]):
        edge[:] = colour


def framed(canvas: np.ndarray, right: int = MARGIN) -> tuple[Figure, Callable[..., None]]:
    """A figure of the picture (height, width, 3) with room for names on the left and titles above.

    Args:
        canvas: the picture.
        right: the room on the right.

    Returns:
        The figure, and a function `write(x, y, words, size, **style)` that writes into it at a
        pixel counted from the top left.
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
    """Text wrapped at `width` characters, without the lines after the first `most`."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    return "\n".join(lines[: max(1, int(most))])


def image_sheet(images: np.ndarray, scale: int, below: int = 0) -> np.ndarray:
    """Images (N, n, C, H, W), enlarged `scale` times, in N rows: uint8 (height, width, 3).

    Below each image `below` pixels are left white.
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
    """A function of one number and its prediction, as points (2, n) of x and y."""

    context: np.ndarray
    query: np.ndarray
    curve: np.ndarray  # predicted means, x ascending
    sd: np.ndarray | None  # (n,), predicted standard deviations along the curve, if any


def draw_fits(fits: Sequence[Fit], title: str) -> Figure:
    """Draw each function and its predicted curve, with a band of two standard deviations."""
    columns = math.ceil(len(fits) ** 0.5)
    rows = math.ceil(len(fits) / columns)
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
    """Draw images completed from some of their pixels.

    Each task has two or three rows: what was seen, the predicted mean, and its variance if given.
    There is one column for each number of pixels seen; the last one is of all pixels.

    Args:
        seen: (T, columns, H, W, C) in [0, 1]; nan where a pixel was not seen.
        mean: predicted, of the same shape.
        variance: of the same shape; drawn is its mean over channels.
        shots: for each column, how many pixels were seen.
        title: stands above.
    """
    side = seen.shape[2]
    scale = max(1, round(IMAGE / side))
    unseen = np.isnan(seen).any(-1, keepdims=True)
    rows = {"context": np.where(unseen, UNSEEN, np.nan_to_num(seen)), "predicted mean": mean}
    top = 1.0
    if variance is not None:
        top = float(variance.mean(-1).max())
        rows["variance"] = VARIANCE(variance.mean(-1) / top)[..., :3]
    in_colour = [np.broadcast_to(row, (*row.shape[:4], 3)) for row in rows.values()]
    pixels = (np.stack(in_colour, 1).clip(0, 1) * 255).round().astype(np.uint8)
    sheets = [image_sheet(task.transpose(0, 1, 4, 2, 3), scale) for task in pixels]
    height, width = sheets[0].shape[:2]
    parts = [sheets[0]]
    for sheet in sheets[1:]:
        parts += [np.full((DIVIDE, width, 3), PAPER, np.uint8), sheet]
    figure, write = framed(np.concatenate(parts), MARGIN if variance is None else BAR)
    characters = (LABEL + width + BAR) // 11  # of a line of the title
    write(MARGIN, 6, wrapped_lines(title, characters, 2), 11, weight="bold", va="top")
    image = side * scale
    for column, shot in enumerate(shots):
        words = f"all {shot} pixels" if column == len(shots) - 1 else f"{shot} pixels"
        x = LABEL + column * (image + GAP) + image / 2
        write(x, HEAD - 6, words, 10, ha="center")
    for task in range(len(sheets)):
        for row, name in enumerate(rows):
            y = HEAD + task * (height + DIVIDE) + row * (image + GAP) + image / 2
            words = f"test task {task}: {name}" if row == 0 else name
            write(LABEL - 10, y, words, 10, ha="right", va="center")
    if variance is not None:
        scale_of_colours(figure, LABEL + width + 20, height, top)
    return figure


def scale_of_colours(figure: Figure, left: int, length: int, top: float) -> None:
    """Draw the upright colour scale of variances from 0 to `top`, `length` pixels, at `left`."""
    width, height = figure.get_size_inches() * SCREEN_DPI
    bottom = 1 - (HEAD + length) / height
    axes = figure.add_axes((left / width, bottom, 16 / width, length / height))
    figure.colorbar(ScalarMappable(Normalize(0, top), VARIANCE), cax=axes, label="variance")

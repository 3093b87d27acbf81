"""The differences between all rows of a comparison, as a matrix in colours."""

import math
import textwrap

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.reports.metrics import is_error, metric_of
from zoo.reports.tables.cells import runs_of
from zoo.reports.tables.differences import LEVEL, TRAINED


def difference_matrix(pairs: pd.DataFrame, column: str, metric: str = "accuracy") -> Figure:
    """The differences in one column of a table: row minus column, pale where not significant.

    It is 3.4 inches wide, as a column of a paper, for up to 16 rows with short names; more rows
    and longer names make it wider.

    Args:
        pairs: as `row_differences` returns it.
        column: of the table.
        metric: of that column.
    """
    part = pairs[pairs["column"] == column]
    labels = list(dict.fromkeys(part[["first", "second"]].to_numpy().ravel()))
    count = max(len(labels), 1)
    # All in inches.
    width = 3.4 * max(1.0, count / 16)
    label_width = min(0.32 * width, 1.6)
    cell_width = (width - label_width - 0.05) / count
    label_size = min(7.0, 72 * cell_width / 2)  # points
    character = 0.6 * label_size / 72
    characters = int(label_width / character) - 4  # 4 are for the number
    characters = max([characters, *map(_two_lines, labels)])
    width += max(0.0, (characters + 4) * character - label_width)
    label_width = max(label_width, (characters + 4) * character)
    cell_height = min(cell_width, 0.4)
    height = cell_height * count + 0.55
    figure = Figure(figsize=(width, height), dpi=300)
    axes = figure.add_axes(
        (
            label_width / width,
            0.33 / height,
            cell_width * count / width,
            cell_height * count / height,
        )
    )
    _draw_cells(axes, part, labels, metric, text_size=min(7.0, 72 * cell_width / 2.15))
    names = [f"{_wrapped(label, characters)}  {n}" for n, label in enumerate(labels, 1)]
    numbers = [str(n) for n in range(1, len(labels) + 1)]
    axes.set_yticks(range(len(labels)), names, fontsize=label_size, linespacing=0.9)
    axes.set_xticks(range(len(labels)), numbers, fontsize=label_size)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=1.5)
    axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.4)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    what = "row minus column, points of accuracy"
    if is_error(metric):
        what = "squared error of the row, times that of the column"
    trained = " Between trained models." if set(part["claim"].dropna()) == {TRAINED} else ""
    words = f"{column}: {what}.\nPale: not told apart (5 %, Holm over the block).{trained}"
    figure.text(0.03 / width, 0.04 / height, words, fontsize=6, va="bottom")
    return figure


def _draw_cells(
    axes: Axes, pairs: pd.DataFrame, labels: list[str], metric: str, text_size: float
) -> None:
    """Colour each cell and write its number into it; cells without a difference are grey."""
    count = max(len(labels), 1)
    shades = np.full((count, count), np.nan)  # differences, or logarithms of ratios
    numbers = shades.copy()  # differences or ratios, as written
    significant = np.zeros((count, count), dtype=bool)
    for line in runs_of(pairs):
        i, j = labels.index(line["first"]), labels.index(line["second"])
        if is_error(metric):
            shade = np.log(line["difference"])
            numbers[i, j], numbers[j, i] = line["difference"], 1 / line["difference"]
        else:
            shade = metric_of(metric).unit * line["difference"]
            numbers[i, j], numbers[j, i] = shade, -shade
        shades[i, j], shades[j, i] = shade, -shade
        significant[i, j] = significant[j, i] = line["p_holm"] < LEVEL
    largest = np.nanmax(np.abs(shades), initial=0) or 1.0
    colours = colormaps["PuOr"](0.5 + 0.5 * shades / largest)
    colours[~significant, :3] = 0.2 * colours[~significant, :3] + 0.8
    colours[np.isnan(shades)] = (0.88, 0.88, 0.88, 1)
    axes.imshow(colours, aspect="auto")
    for i, j in np.argwhere(~np.isnan(shades)):
        luminance = colours[i, j, :3] @ (0.299, 0.587, 0.114)
        if not significant[i, j]:
            ink = "0.45"
        elif luminance < 0.5:
            ink = "white"
        else:
            ink = "black"
        text = _short(numbers[i, j], metric)
        axes.text(j, i, text, fontsize=text_size, ha="center", va="center", color=ink)


def _short(value: float, metric: str) -> str:
    """A number in at most four characters and a sign, where that is possible."""
    if metric != "accuracy":
        return f"{value:.1f}" if value >= 0.1 else f"{value:.1g}"
    text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _wrapped(label: str, width: int) -> str:
    """A label in lines of `width` characters, broken at spaces and after commas."""
    lines = textwrap.wrap(label.replace(",", ", "), width, break_long_words=False)
    return "\n".join(line.replace(", ", ",") for line in lines)


def _two_lines(label: str) -> int:
    """The fewest characters a line that let a label stand in two lines."""
    width = math.ceil(len(label) / 2)
    while _wrapped(label, width).count("\n") > 1:
        width += 1
    return width

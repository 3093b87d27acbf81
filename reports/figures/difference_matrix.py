"""The differences between all rows of a comparison as a picture."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from zoo.reports.metrics import is_error, metric_of
from zoo.reports.tables.cells import runs_of
from zoo.reports.tables.differences import LEVEL, TRAINED


def difference_matrix(found: pd.DataFrame, column: str, metric: str = "accuracy") -> Figure:
    """The differences of one column as a picture: row minus column, pale where not told from 0.

    As wide as a column of a paper, 3.4 inch, for up to 16 rows, wider in proportion for more.

    Args:
        found: as `differences` returns it.
        column: one of its columns.
        metric: as there.
    """
    part = found[found["column"] == column]
    labels = list(dict.fromkeys(part[["first", "second"]].to_numpy().ravel()))
    count, unit = max(len(labels), 1), metric_of(metric).unit
    across = 3.4 * max(1.0, count / 16)  # inch
    names = min(0.32 * across, 1.6)
    cell = (across - names - 0.05) / count
    tall = min(cell, 0.4)
    high = tall * count + 0.55
    drawing = Figure(figsize=(across, high), dpi=300)
    axes = drawing.add_axes(
        (names / across, 0.33 / high, cell * count / across, tall * count / high)
    )
    size = min(7.0, 72 * cell / 2.15)  # points: of a number of four characters
    values = np.full((count, count), np.nan)  # what is coloured: differences, logarithms of ratios
    numbers = values.copy()  # what is written
    told = np.zeros((count, count), dtype=bool)
    for line in runs_of(part):
        i, j = labels.index(line["first"]), labels.index(line["second"])
        if is_error(metric):
            shade = np.log(line["difference"])
            numbers[i, j], numbers[j, i] = line["difference"], 1 / line["difference"]
        else:
            shade = unit * line["difference"]
            numbers[i, j], numbers[j, i] = shade, -shade
        values[i, j], values[j, i] = shade, -shade
        told[i, j] = told[j, i] = line["p_holm"] < LEVEL
    top = np.nanmax(np.abs(values), initial=0) or 1.0
    colours = colormaps["PuOr"](0.5 + 0.5 * values / top)
    colours[~told, :3] = 0.2 * colours[~told, :3] + 0.8
    colours[np.isnan(values)] = (0.88, 0.88, 0.88, 1)
    axes.imshow(colours, aspect="auto")
    for i, j in np.argwhere(~np.isnan(values)):
        dark = told[i, j] and colours[i, j, :3] @ (0.299, 0.587, 0.114) < 0.5
        ink = "white" if dark else "black" if told[i, j] else "0.45"
        text = _short(numbers[i, j], metric)
        axes.text(j, i, text, fontsize=size, ha="center", va="center", color=ink)
    small = min(7.0, 72 * cell / 2)
    width = int(72 * names / (0.6 * small)) - 4  # characters, less the number
    lines = [f"{_fitted(label, width)}  {n + 1}" for n, label in enumerate(labels)]
    axes.set_yticks(range(len(labels)), lines, fontsize=small, linespacing=0.9)
    axes.set_xticks(range(len(labels)), [str(n + 1) for n in range(len(labels))], fontsize=small)
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
    drawing.text(0.03 / across, 0.04 / high, words, fontsize=6, va="bottom")
    return drawing


def _short(value: float, metric: str) -> str:
    """At most four characters and a sign, where the number allows it."""
    if metric != "accuracy":
        return f"{value:.1f}" if value >= 0.1 else f"{value:.1g}"
    text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _fitted(label: str, width: int) -> str:
    """In one line or two of so many characters, cut at the end."""
    first, *others = textwrap.wrap(label.replace(",", ", "), width)
    rest = " ".join(others)
    rest = rest if len(rest) <= width else rest[: width - 1] + "…"
    return f"{first}\n{rest}" if rest else first

"""The look of figures: as wide as a paper's column, in colours for the colour-blind too."""

import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from zoo.reports.estimates import columns_of

COLUMN_WIDTH = 3.4  # inches: one of two columns on a page
DPI = 300
TEXT_SIZE = 7  # points, of all text
FEW_ENTRIES = 5  # up to so many entries of a legend may fill a line each
ROW_HEIGHT = 0.15  # inches that a line of text takes
# Okabe and Ito's colours, with grey in place of yellow, which is pale on white.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#000000",
    "#56B4E9",
    "#E69F00",
    "#888888",
)
MARKERS = "os^DvPX*<>phd"
LINE_STYLES = ("-", "--", ":", "-.")
SMALL_MARKS: dict[str, Any] = {"linewidth": 0.9, "markersize": 3.2, "markeredgewidth": 0.8}
MEASURED_STYLE = SMALL_MARKS | {"color": COLOURS[0], "marker": "o"}
PUBLISHED_STYLE = SMALL_MARKS | {"color": COLOURS[1], "marker": "D", "markerfacecolor": "white"}


class Style(NamedTuple):
    """How a learner is drawn."""

    color: str
    marker: str
    linestyle: str


def style(number: int) -> Style:
    """The n-th style; the first 104 all differ in colour or marker."""
    return Style(
        COLOURS[number % len(COLOURS)],
        MARKERS[number % len(MARKERS)],
        LINE_STYLES[number // len(COLOURS) % len(LINE_STYLES)],
    )


def figure_sheet(height: float, title: str) -> Figure:
    """An empty figure with a title, whose height in inches is added to `height`."""
    words = textwrap.fill(title, 52)
    height += ROW_HEIGHT * (words.count("\n") + 1) if title else 0
    figure = Figure((COLUMN_WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
    if title:
        figure.suptitle(words, fontsize=8)
    return figure


def say_nothing_measured(figure: Figure) -> Figure:
    """Write into an empty figure that there is nothing to draw."""
    figure.text(0.5, 0.4, "nothing was measured", ha="center", fontsize=TEXT_SIZE)
    return figure


def plain_axes(axes: Axes) -> None:
    """Give axes thin lines and small text, without a frame at the top and on the right."""
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=TEXT_SIZE, width=0.5, length=2)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.5)


def wrapped_label(label: str, width: int) -> str:
    """A label wrapped into lines of this many characters, which may also end after a comma."""
    return textwrap.fill(re.sub(",(?! )", ", ", label), width)


def interval_arms(numbers: pd.DataFrame, name: str, unit: float) -> list[pd.Series]:
    """How far the intervals of an estimate reach down and up, times `unit`; 0 without interval."""
    value, low, high = (numbers[column].astype(float) * unit for column in columns_of(name))
    return [(value - low).fillna(0), (high - value).fillna(0)]


def legend_line(look: Style) -> Line2D:
    """The line of a learner in a legend."""
    return Line2D([], [], **look._asdict(), linewidth=0.9, markersize=4)


def add_legend(figure: Figure, entries: Sequence[tuple[Line2D, str]]) -> None:
    """Add a legend below all else, in as many columns as fit, and make the figure higher for it."""
    names = [wrapped_label(name, 24 if len(entries) > FEW_ENTRIES else 56) for _, name in entries]
    text_widths = [
        TextPath((0, 0), line, size=TEXT_SIZE).get_extents().width / 72  # inches
        for name in names
        for line in name.split("\n")
    ]
    columns = max(1, min(len(names), int(COLUMN_WIDTH / (max(text_widths) + 0.36))))
    lines = sum(name.count("\n") + 1 for name in names)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + ROW_HEIGHT * math.ceil(lines / columns) + 0.1)
    figure.legend(
        [line for line, _ in entries],
        names,
        loc="outside lower center",
        ncols=columns,
        fontsize=TEXT_SIZE,
        frameon=False,
        handlelength=2.2,
        handletextpad=0.5,
        columnspacing=1,
        labelspacing=0.3,
    )


def shortened(name: str, longest: int) -> str:
    """A name of at most `longest` characters: the middle of a longer one is left out."""
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[: longest - 1 - half]}…{name[len(name) - half :]}"

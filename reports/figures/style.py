"""How figures look: a paper's column wide, in colours that the colour-blind tell apart."""

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

COLUMN_WIDTH = 3.4  # inches, of a column of two on a page
DPI = 300
TEXT_SIZE = 7  # points, of all text
FEW_ENTRIES = 5  # entries of a legend that may have a line each
ROW_HEIGHT = 0.15  # inches that a line of text takes
# Okabe and Ito's, without yellow, which is pale on white, and with grey
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00", "#888888",
)  # fmt: skip
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
    """The n-th, unlike all others of the first 104 in colour or in marker."""
    row = number // len(COLOURS)
    return Style(
        COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], LINE_STYLES[row % 4]
    )


def figure_sheet(height: float, title: str) -> Figure:
    """An empty figure of so many inches, and its title."""
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
    """Thin lines and small text, without a frame above and at the right."""
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=TEXT_SIZE, width=0.5, length=2)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.5)


def wrapped_label(label: str, width: int) -> str:
    """In lines, which may end after a comma too."""
    return textwrap.fill(re.sub(",(?! )", ", ", label), width)


def interval_arms(found: pd.DataFrame, name: str, unit: float) -> list[pd.Series]:
    """How far the intervals of a column reach below and above, in the unit drawn; 0 for none."""
    value, low, high = (found[column].astype(float) * unit for column in columns_of(name))
    return [(value - low).fillna(0), (high - value).fillna(0)]


def legend_line(look: Style) -> Line2D:
    """What stands for a learner in a legend."""
    return Line2D([], [], **look._asdict(), linewidth=0.9, markersize=4)


def add_legend(figure: Figure, entries: Sequence[tuple[Line2D, str]]) -> None:
    """Below all else, in as many columns as fit; the figure grows by it."""
    names = [wrapped_label(name, 24 if len(entries) > FEW_ENTRIES else 56) for _, name in entries]
    wide = max(
        TextPath((0, 0), line, size=TEXT_SIZE).get_extents().width / 72 + 0.36
        for name in names
        for line in name.split("\n")
    )
    columns = max(1, min(len(names), int(COLUMN_WIDTH / wide)))
    lines = sum(name.count("\n") + 1 for name in names)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + ROW_HEIGHT * -(-lines // columns) + 0.1)
    figure.legend(
        [line for line, _ in entries], names, loc="outside lower center", ncols=columns,
        fontsize=TEXT_SIZE, frameon=False, handlelength=2.2, handletextpad=0.5, columnspacing=1,
        labelspacing=0.3,
    )  # fmt: skip


def shortened(name: str, longest: int) -> str:
    """A name of at most so many characters: the middle of a longer one is left out."""
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[: longest - 1 - half]}…{name[len(name) - half :]}"

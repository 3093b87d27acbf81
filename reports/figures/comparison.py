"""What runs gave, drawn as wide as a paper's column, in colours that the colour-blind tell apart.

Every figure takes a frame whose column `label` says what a learner is called, and is drawn where
there is nothing to draw, too: it then says so.
"""

import re
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from zoo.reports.tables.cells import RecordRow, runs_of
from zoo.reports.tables.comparison import METRICS, metric_of

WIDTH = 3.4  # inches, of a column of two on a page
DPI = 300
SIZE = 7  # points, of all text
FEW = 5  # entries of a legend that may have a line each
ROW = 0.15  # inches that a line of text takes
# Okabe and Ito's, without yellow, which is pale on white, and with grey
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00", "#888888",
)  # fmt: skip
MARKERS = "os^DvPX*<>phd"
LINES = ("-", "--", ":", "-.")
SMALL: dict[str, Any] = {"linewidth": 0.9, "markersize": 3.2, "markeredgewidth": 0.8}
MEASURED = SMALL | {"color": COLOURS[0], "marker": "o"}
PUBLISHED = SMALL | {"color": COLOURS[1], "marker": "D", "markerfacecolor": "white"}
AXIS = {"accuracy": "accuracy in %", "mse": "mean squared error"}


class Style(NamedTuple):
    """How a learner is drawn."""

    color: str
    marker: str
    linestyle: str


def style(number: int) -> Style:
    """The n-th, unlike all others of the first 104 in colour or in marker."""
    row = number // len(COLOURS)
    return Style(COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], LINES[row % 4])


def accuracy_figure(found: pd.DataFrame, *, metric: str = "accuracy", title: str = "") -> Figure:
    """What was measured, with its interval, and beside it, hollow, what is published.

    A row a learner, a panel a column, both in the order of the frame.

    Args:
        found: `label`, `column`, `mean`, `ci95`, `published`, `published_ci95`; accuracies are
            fractions of 1; nan for what there is not.
        metric: what the numbers are.
        title: stands above.
    """
    labels, columns = list(dict.fromkeys(found["label"])), list(dict.fromkeys(found["column"]))
    across = min(2, len(columns)) or 1
    names = [_wrapped(label, 26 if across == 1 else 20) for label in labels]
    heights = [1.05 + 0.75 * name.count("\n") for name in names]  # of the rows
    places = np.cumsum(heights) - np.array(heights) / 2
    down = -(-len(columns) // across) or 1
    figure = _sheet(down * (ROW * sum(heights) + 0.5), title)
    if not len(found):
        return _nothing(figure)
    unit, beside = METRICS[metric].unit, found["published"].notna().any()
    grid: Any = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, column in zip(grid.flat, columns, strict=False):
        _plain(axes)
        own = found[found["column"] == column]
        at = places[[labels.index(label) for label in own["label"]]]
        numbers = own[["mean", "ci95", "published", "published_ci95"]].astype(float) * unit
        for name, ci95, shift, look in (
            ("mean", "ci95", -0.12, MEASURED),
            ("published", "published_ci95", 0.22, PUBLISHED),
        ):
            axes.errorbar(
                numbers[name], at + shift * beside, xerr=numbers[ci95].fillna(0),
                **{**look, "linestyle": ""}, capsize=1.5,
            )  # fmt: skip
        axes.set_yticks(places, names)
        axes.set_ylim(sum(heights), 0)
        axes.tick_params(axis="y", length=0)
        axes.grid(color="0.9", linewidth=0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6 // across, steps=[1, 2, 5, 10]))
        axes.set_title(column, fontsize=SIZE)
        axes.set_xlabel(AXIS[metric], fontsize=SIZE)
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    if beside:
        words = "measured, 95 % interval", "published, as printed"
        looks = (Line2D([], [], **look) for look in (MEASURED, PUBLISHED))
        _legend(figure, list(zip(looks, words, strict=True)))
    return figure


def curves_figure(
    runs: pd.DataFrame, *, metric: str = "accuracy", against: str = "updates", title: str = ""
) -> Figure:
    """What validation gave while learners trained; a failed run ends in a cross.

    Args:
        runs: as `records.load` returns them, and `label`; runs of one label look alike.
        metric: what validation measured.
        against: `updates`, or `tasks`: training tasks seen.
        title: stands above.
    """
    numbers = {label: number for number, label in enumerate(dict.fromkeys(runs["label"]))}
    drawn: list[tuple[float, str]] = []
    failed = False
    figure = _sheet(2.2, title)
    axes = figure.add_subplot()
    for run in runs_of(runs):
        x, y = _curve(run, METRICS[metric].unit, against)
        if not len(x):
            continue
        look = style(numbers[run["label"]])
        axes.plot(x, y, **look._asdict(), linewidth=0.9, markersize=3, markevery=_some(len(x)))
        if run["status"] != "done":
            axes.plot(x[-1:], y[-1:], "x", color=look.color, markersize=6)
            failed = True
        drawn.append((y[-1], run["label"]))
    if not drawn:
        figure.delaxes(axes)
        return _nothing(figure)
    _plain(axes)
    axes.grid(color="0.9", linewidth=0.5)
    if metric == "mse":
        axes.set_yscale("log")
    axes.set_xlabel("updates" if against == "updates" else "training tasks seen", fontsize=SIZE)
    axes.set_ylabel(f"validation: {AXIS[metric]}", fontsize=SIZE)
    order = dict.fromkeys(label for _, label in sorted(drawn, reverse=True))  # as the lines end
    entries = [(_line(style(numbers[label])), label) for label in order]
    if failed:
        entries.append((Line2D([], [], color="0.3", marker="x", linestyle=""), "failed here"))
    _legend(figure, entries)
    return figure


def cost_figure(runs: pd.DataFrame, *, metric: str = "accuracy", title: str = "") -> Figure:
    """What the test gave, with its interval, against how long training took, a point a run.

    The seconds are those of all updates; where a run does not know them, for all runs those of
    the training in whole, validation included. Stages before it are in neither.

    Args:
        runs: as `records.load` returns them, and `label`; failed ones are left out.
        metric: what is on the upright axis.
        title: stands above.
    """
    numbers = {label: number for number, label in enumerate(dict.fromkeys(runs["label"]))}
    done = runs[(runs["status"] == "done") & runs.get(metric, pd.Series(dtype=float)).notna()]
    figure = _sheet(2.4, title)
    name = "update_seconds" if done["update_seconds"].notna().all() else "train_seconds"
    done = done[done[name].notna()].sort_values(metric, ascending=False, kind="stable")
    if not len(done):
        return _nothing(figure)
    axes = figure.add_subplot()
    unit = metric_of(metric).unit
    for run in runs_of(done):
        look = style(numbers[run["label"]])
        half: float = 0 if pd.isna(run[f"{metric}_ci95"]) else unit * run[f"{metric}_ci95"]
        axes.errorbar(
            run[name], unit * run[metric], yerr=half, color=look.color, marker=look.marker,
            markersize=3.5, elinewidth=0.8,
        )  # fmt: skip
    _plain(axes)
    axes.grid(color="0.9", linewidth=0.5)
    seconds = done[name].astype(float)
    if (seconds > 0).any():
        least = 10 ** np.floor(np.log10(seconds[seconds > 0].min()))
        if (seconds > 0).all():
            axes.set_xscale("log")
        else:  # with a place for 0
            axes.set_xscale("symlog", linthresh=least, linscale=0.4)
    what = "updates" if name == "update_seconds" else "training, validation included"
    axes.set_xlabel(f"seconds of {what}\n{_machines(done)}", fontsize=SIZE)
    if metric == "mse":
        axes.set_yscale("log")
    axes.set_ylabel(f"test: {AXIS[metric]}", fontsize=SIZE)
    order = dict.fromkeys(done["label"])
    looks = {label: style(numbers[label]) for label in order}
    _legend(figure, [(_line(look._replace(linestyle="")), k) for k, look in looks.items()])
    return figure


def _machines(runs: pd.DataFrame) -> str:
    """Where the seconds passed."""
    names = runs["device_name"].fillna(runs["device"]).fillna("a machine not known").map(str)
    found = (
        names + runs["threads"].map(", {} threads".format, na_action="ignore").fillna("")
    ).unique()
    several = f"{len(found)} different machines or numbers of threads"
    return textwrap.fill(f"on {found[0] if len(found) == 1 else several}", 52)


def _curve(run: RecordRow, unit: int, against: str) -> tuple[np.ndarray, np.ndarray]:
    """Updates or tasks, and what validation gave; what is no number is left out."""
    pairs = run["validation"] if isinstance(run["validation"], list) else []
    x, y = np.array(pairs, dtype=float).reshape(-1, 2).T
    if against == "tasks":
        seen, updates = run["tasks_seen"], run["updates"]
        x = x * (np.nan if pd.isna(seen) or pd.isna(updates) or not updates else seen / updates)
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], unit * y[known]


def _sheet(height: float, title: str) -> Figure:
    """An empty figure of so many inches, and its title."""
    words = textwrap.fill(title, 52)
    height += ROW * (words.count("\n") + 1) if title else 0
    figure = Figure((WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
    if title:
        figure.suptitle(words, fontsize=8)
    return figure


def _nothing(figure: Figure) -> Figure:
    figure.text(0.5, 0.4, "nothing was measured", ha="center", fontsize=SIZE)
    return figure


def _plain(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SIZE, width=0.5, length=2)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.5)


def _wrapped(label: str, width: int) -> str:
    """In lines, which may end after a comma too."""
    return textwrap.fill(re.sub(",(?! )", ", ", label), width)


def _line(look: Style) -> Line2D:
    return Line2D([], [], **look._asdict(), linewidth=0.9, markersize=4)


def _legend(figure: Figure, entries: Sequence[tuple[Line2D, str]]) -> None:
    """Below all else, in as many columns as fit; the figure grows by it."""
    names = [_wrapped(name, 24 if len(entries) > FEW else 56) for _, name in entries]
    wide = max(
        TextPath((0, 0), line, size=SIZE).get_extents().width / 72 + 0.36
        for name in names
        for line in name.split("\n")
    )
    columns = max(1, min(len(names), int(WIDTH / wide)))
    lines = sum(name.count("\n") + 1 for name in names)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + ROW * -(-lines // columns) + 0.1)
    figure.legend(
        [line for line, _ in entries], names, loc="outside lower center", ncols=columns,
        fontsize=SIZE, frameon=False, handlelength=2.2, handletextpad=0.5, columnspacing=1,
        labelspacing=0.3,
    )  # fmt: skip


def _some(count: int) -> int:
    """Of so many points every how many-th gets a marker."""
    return max(1, count // 8)

"""The figures of a comparison: accuracies with their intervals, learning curves, costs.

Every figure takes a frame whose column `label` says what a learner is called, and is drawn where
there is nothing to draw, too: it then says so.
"""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from zoo.reports.figures.style import (
    MEASURED_STYLE,
    PUBLISHED_STYLE,
    ROW_HEIGHT,
    TEXT_SIZE,
    _some,
    add_legend,
    figure_sheet,
    legend_line,
    plain_axes,
    say_nothing_measured,
    style,
    wrapped_label,
)
from zoo.reports.metrics import METRICS, metric_of
from zoo.reports.tables.cells import RecordRow, runs_of

AXIS = {"accuracy": "accuracy in %", "mse": "mean squared error"}


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
    names = [wrapped_label(label, 26 if across == 1 else 20) for label in labels]
    heights = [1.05 + 0.75 * name.count("\n") for name in names]  # of the rows
    places = np.cumsum(heights) - np.array(heights) / 2
    down = -(-len(columns) // across) or 1
    figure = figure_sheet(down * (ROW_HEIGHT * sum(heights) + 0.5), title)
    if not len(found):
        return say_nothing_measured(figure)
    unit, beside = METRICS[metric].unit, found["published"].notna().any()
    grid: Any = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, column in zip(grid.flat, columns, strict=False):
        plain_axes(axes)
        own = found[found["column"] == column]
        at = places[[labels.index(label) for label in own["label"]]]
        numbers = own[["mean", "ci95", "published", "published_ci95"]].astype(float) * unit
        for name, ci95, shift, look in (
            ("mean", "ci95", -0.12, MEASURED_STYLE),
            ("published", "published_ci95", 0.22, PUBLISHED_STYLE),
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
        axes.set_title(column, fontsize=TEXT_SIZE)
        axes.set_xlabel(AXIS[metric], fontsize=TEXT_SIZE)
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    if beside:
        words = "measured, 95 % interval", "published, as printed"
        looks = (Line2D([], [], **look) for look in (MEASURED_STYLE, PUBLISHED_STYLE))
        add_legend(figure, list(zip(looks, words, strict=True)))
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
    figure = figure_sheet(2.2, title)
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
        return say_nothing_measured(figure)
    plain_axes(axes)
    axes.grid(color="0.9", linewidth=0.5)
    if metric == "mse":
        axes.set_yscale("log")
    axes.set_xlabel(
        "updates" if against == "updates" else "training tasks seen", fontsize=TEXT_SIZE
    )
    axes.set_ylabel(f"validation: {AXIS[metric]}", fontsize=TEXT_SIZE)
    order = dict.fromkeys(label for _, label in sorted(drawn, reverse=True))  # as the lines end
    entries = [(legend_line(style(numbers[label])), label) for label in order]
    if failed:
        entries.append((Line2D([], [], color="0.3", marker="x", linestyle=""), "failed here"))
    add_legend(figure, entries)
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
    figure = figure_sheet(2.4, title)
    name = "update_seconds" if done["update_seconds"].notna().all() else "train_seconds"
    done = done[done[name].notna()].sort_values(metric, ascending=False, kind="stable")
    if not len(done):
        return say_nothing_measured(figure)
    axes = figure.add_subplot()
    unit = metric_of(metric).unit
    for run in runs_of(done):
        look = style(numbers[run["label"]])
        half: float = 0 if pd.isna(run[f"{metric}_ci95"]) else unit * run[f"{metric}_ci95"]
        axes.errorbar(
            run[name], unit * run[metric], yerr=half, color=look.color, marker=look.marker,
            markersize=3.5, elinewidth=0.8,
        )  # fmt: skip
    plain_axes(axes)
    axes.grid(color="0.9", linewidth=0.5)
    seconds = done[name].astype(float)
    if (seconds > 0).any():
        least = 10 ** np.floor(np.log10(seconds[seconds > 0].min()))
        if (seconds > 0).all():
            axes.set_xscale("log")
        else:  # with a place for 0
            axes.set_xscale("symlog", linthresh=least, linscale=0.4)
    what = "updates" if name == "update_seconds" else "training, validation included"
    axes.set_xlabel(f"seconds of {what}\n{_machines(done)}", fontsize=TEXT_SIZE)
    if metric == "mse":
        axes.set_yscale("log")
    axes.set_ylabel(f"test: {AXIS[metric]}", fontsize=TEXT_SIZE)
    order = dict.fromkeys(done["label"])
    looks = {label: style(numbers[label]) for label in order}
    add_legend(figure, [(legend_line(look._replace(linestyle="")), k) for k, look in looks.items()])
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

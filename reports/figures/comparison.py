"""The figures of a comparison: accuracies with their intervals, learning curves, costs.

Every figure takes a frame whose column `label` says what a learner is called, and is drawn where
there is nothing to draw, too: it then says so.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from zoo.reports.costs import cpu_cost, stages_of
from zoo.reports.figures.style import (
    MEASURED_STYLE,
    PUBLISHED_STYLE,
    ROW_HEIGHT,
    TEXT_SIZE,
    Style,
    add_legend,
    figure_sheet,
    interval_arms,
    legend_line,
    plain_axes,
    say_nothing_measured,
    style,
    wrapped_label,
)
from zoo.reports.metrics import is_error, metric_of
from zoo.reports.tables.cells import RecordRow, runs_of

TOGETHER, PANELS_ACROSS = 5, 3  # curves of so many learners share a panel; panels side by side
SECONDS = {
    "cpu_seconds": "CPU seconds of updates and of the stages before",
    "update_cpu_seconds": "CPU seconds of updates",
    "update_seconds": "seconds of updates by the clock, other work of the machine included",
    "train_seconds": "seconds of training by the clock, validation and other work included",
}


def accuracy_figure(found: pd.DataFrame, *, metric: str = "accuracy", title: str = "") -> Figure:
    """What was measured, with its interval, and beside it, hollow, what is published.

    A row a learner, a panel a column, both in the order of the frame.

    Args:
        found: as `comparison_numbers` returns it.
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
    unit, beside = metric_of(metric).unit, found["published"].notna().any()
    grid: Any = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, column in zip(grid.flat, columns, strict=False):
        plain_axes(axes)
        own = found[found["column"] == column]
        at = places[[labels.index(label) for label in own["label"]]]
        numbers = own[["value", "published", "published_ci95"]].astype(float) * unit
        printed = numbers["published_ci95"].fillna(0)
        for name, arms, shift, look in (
            ("value", interval_arms(own, "value", unit), -0.12, MEASURED_STYLE),
            ("published", [printed, printed], 0.22, PUBLISHED_STYLE),
        ):
            axes.errorbar(
                numbers[name], at + shift * beside, xerr=arms,
                **{**look, "linestyle": ""}, capsize=1.5,
            )  # fmt: skip
        axes.set_yticks(places, names)
        axes.set_ylim(sum(heights), 0)
        axes.tick_params(axis="y", length=0)
        axes.grid(color="0.9", linewidth=0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6 // across, steps=[1, 2, 5, 10]))
        axes.set_title(column, fontsize=TEXT_SIZE)
        axes.set_xlabel(metric_of(metric).typical, fontsize=TEXT_SIZE)
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    if beside:
        words = "measured, 95 % interval", "published, as printed"
        looks = (Line2D([], [], **look) for look in (MEASURED_STYLE, PUBLISHED_STYLE))
        add_legend(figure, list(zip(looks, words, strict=True)))
    return figure


def curves_figure(
    runs: pd.DataFrame,
    *,
    metric: str = "accuracy",
    against: str = "updates",
    title: str = "",
    labels: Sequence[str] = (),
) -> Figure:
    """What validation gave while learners trained; a failed run ends in a cross.

    Of squared errors that is the median over the tasks where all these runs recorded it, else the
    mean; the axis says which. More than five learners have a panel each.

    Args:
        runs: as `records.load` returns them, and `label`; runs of one label look alike.
        metric: what validation measured.
        against: `updates`, or `tasks`: training tasks seen.
        title: stands above.
        labels: see `row_styles`.
    """
    looks = row_styles(runs, labels)
    medians = is_error(metric) and all(_has_medians(run) for run in runs_of(runs))
    curves: dict[str, list[_Curve]] = {label: [] for label in looks}
    for run in runs_of(runs):
        x, y = _curve(run, metric_of(metric).unit, against, medians)
        if len(x):
            curves[run["label"]].append(_Curve(x, y, run["status"] != "done"))
    curves = {label: own for label, own in curves.items() if own}
    if not curves:
        return say_nothing_measured(figure_sheet(2.2, title))
    if len(curves) > TOGETHER:
        figure, panels = _panel_each(curves, looks, title)
    else:
        figure, panels = _one_panel(curves, looks, title)
    for axes in panels:
        plain_axes(axes)
        axes.grid(color="0.9", linewidth=0.5)
        if is_error(metric):
            axes.set_yscale("log")
    what = "updates" if against == "updates" else "training tasks seen"
    shown = metric_of(metric).typical if medians else metric_of(metric).mean
    if len(panels) == 1:  # a label of the figure would lie over the legend
        panels[0].set_xlabel(what, fontsize=TEXT_SIZE)
        panels[0].set_ylabel(f"validation: {shown}", fontsize=TEXT_SIZE)
    else:
        figure.supxlabel(what, fontsize=TEXT_SIZE)
        figure.supylabel(f"validation: {shown}", fontsize=TEXT_SIZE)
    return figure


class _Curve(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    failed: bool


def row_styles(runs: pd.DataFrame, labels: Sequence[str] = ()) -> dict[str, Style]:
    """How each row is drawn: by its place among all rows of a page, alike in all its figures.

    Args:
        runs: of one figure, with `label`.
        labels: all rows of the page; none where the figure stands alone.
    """
    every = dict.fromkeys([*labels, *runs["label"]])
    return {label: style(number) for number, label in enumerate(every)}


def _one_panel(
    curves: dict[str, list[_Curve]], looks: Mapping[str, Style], title: str
) -> tuple[Figure, list[Axes]]:
    """All curves together, with a legend in the order in which they end."""
    figure = figure_sheet(2.2, title)
    axes = figure.add_subplot()
    for label, own in curves.items():
        for curve in own:
            look = looks[label]
            every = max(1, len(curve.x) // 8)
            axes.plot(
                curve.x, curve.y, **look._asdict(), linewidth=0.9, markersize=3, markevery=every
            )
            if curve.failed:
                axes.plot(curve.x[-1:], curve.y[-1:], "x", color=look.color, markersize=6)
    order = sorted(curves, key=lambda label: -max(curve.y[-1] for curve in curves[label]))
    entries = [(legend_line(looks[label]), label) for label in order]
    if any(curve.failed for own in curves.values() for curve in own):
        entries.append((Line2D([], [], color="0.3", marker="x", linestyle=""), "failed here"))
    add_legend(figure, entries)
    return figure, [axes]


def _panel_each(
    curves: dict[str, list[_Curve]], looks: Mapping[str, Style], title: str
) -> tuple[Figure, list[Axes]]:
    """A panel for each label: its own curves in colour, those of all others in grey behind them."""
    down = -(-len(curves) // PANELS_ACROSS)
    figure = figure_sheet(0.3 + 0.85 * down, title)
    grid: Any = figure.subplots(down, PANELS_ACROSS, sharex=True, sharey=True, squeeze=False)
    for axes, label in zip(grid.flat, curves, strict=False):
        for other, others in curves.items():
            for curve in others if other != label else ():
                axes.plot(curve.x, curve.y, color="0.85", linewidth=0.6)
        for curve in curves[label]:
            axes.plot(curve.x, curve.y, color=looks[label].color, linewidth=1.1)
            if curve.failed:
                axes.plot(curve.x[-1:], curve.y[-1:], "x", color=looks[label].color, markersize=5)
        axes.set_title(wrapped_label(label, 17), fontsize=TEXT_SIZE, pad=2)
        axes.xaxis.set_major_locator(MaxNLocator(2))
    for number, axes in enumerate(grid.flat):
        axes.set_visible(number < len(curves))
        below = number + PANELS_ACROSS  # the lowest panel of each column has the numbers
        axes.tick_params(labelbottom=below >= len(curves))
    return figure, list(grid.flat[: len(curves)])


def cost_figure(
    runs: pd.DataFrame, *, metric: str = "accuracy", title: str = "", labels: Sequence[str] = ()
) -> Figure:
    """What the test gave, with its interval, against how long training took, a point a run.

    The seconds are the CPU's of all updates, those of stages before the training included. Where a
    run, an old one, does not know those of its stages, they are left out for all runs; where one
    does not know its CPU seconds, they are for all those of the clock, which tell of the machine's
    other work too. The axis says so.

    Args:
        runs: as `records.load` returns them, and `label`; failed ones are left out.
        metric: what is on the upright axis.
        title: stands above.
        labels: see `row_styles`.
    """
    looks = row_styles(runs, labels)
    done = runs[(runs["status"] == "done") & runs.get(metric, pd.Series(dtype=float)).notna()]
    figure = figure_sheet(2.4, title)
    costs = [cpu_cost(run) for run in runs_of(done)]
    whole = [np.nan if cost.unknown else cost.own + cost.stages for cost in costs]
    done = done.assign(cpu_seconds=np.array(whole, dtype=float))
    staged = any(stages_of(run) for run in runs_of(done))
    columns = [*SECONDS] if staged else [*SECONDS][1:]
    name = next((name for name in columns if done[name].notna().all()), "train_seconds")
    done = done[done[name].notna()].sort_values(metric, ascending=False, kind="stable")
    if not len(done):
        return say_nothing_measured(figure)
    axes = figure.add_subplot()
    unit = metric_of(metric).unit
    for run in runs_of(done):
        look = looks[run["label"]]
        half: float = 0 if pd.isna(run[f"{metric}_ci95"]) else unit * run[f"{metric}_ci95"]
        half = 0 if is_error(metric) else half  # a mean squared error has no interval
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
    left_out = ", without the stages before" if staged and name != "cpu_seconds" else ""
    words = textwrap.fill(SECONDS[name] + left_out, 52)
    axes.set_xlabel(f"{words}\n{_machines(done)}", fontsize=TEXT_SIZE)
    if is_error(metric):
        axes.set_yscale("log")
    axes.set_ylabel(f"test: {metric_of(metric).mean}", fontsize=TEXT_SIZE)
    order = dict.fromkeys(done["label"])
    add_legend(figure, [(legend_line(looks[k]._replace(linestyle="")), k) for k in order])
    return figure


def _machines(runs: pd.DataFrame) -> str:
    """Where the seconds passed."""
    names = runs["device_name"].fillna(runs["device"]).fillna("a machine not known").map(str)
    found = (
        names
        + runs["threads"].astype(object).map(", {} threads".format, na_action="ignore").fillna("")
    ).unique()
    several = f"{len(found)} different machines or numbers of threads"
    return textwrap.fill(f"on {found[0] if len(found) == 1 else several}", 52)


def _listed(run: RecordRow, name: str) -> list[Any]:
    """What a record has under this name, one entry a validation; empty where it has nothing."""
    return run[name] if isinstance(run[name], list) else []


def _has_medians(run: RecordRow) -> bool:
    """Whether a run recorded the median error of its validations, or was never validated."""
    curve, medians = _listed(run, "validation"), _listed(run, "validation_median")
    return not curve or (len(medians) == len(curve) and any(m is not None for m in medians))


def _curve(run: RecordRow, unit: int, against: str, medians: bool) -> tuple[np.ndarray, np.ndarray]:
    """Updates or tasks, and what validation gave; what is no number is left out."""
    x, y = np.array(_listed(run, "validation"), dtype=float).reshape(-1, 2).T
    if medians:
        y = np.array(_listed(run, "validation_median")[: len(x)], dtype=float)
    if against == "tasks":
        seen, updates = run["tasks_seen"], run["updates"]
        x = x * (np.nan if pd.isna(seen) or pd.isna(updates) or not updates else seen / updates)
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], unit * y[known]

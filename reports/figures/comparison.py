"""The figures of a comparison: accuracies with their intervals, learning curves, costs.

Every figure takes a frame whose column `label` has the learner's name. Where there is nothing to
draw, the figure says so.
"""

import math
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

TOGETHER = 5  # learning curves of up to so many learners share one panel
PANELS_ACROSS = 3  # panels side by side where each learner has its own
SECONDS = {  # what each column of seconds holds, in the words of the axis
    "cpu_seconds": "CPU seconds of updates and of the stages before",
    "update_cpu_seconds": "CPU seconds of updates",
    "update_seconds": "seconds of updates by the clock, other work of the machine included",
    "train_seconds": "seconds of training by the clock, validation and other work included",
}


def accuracy_figure(numbers: pd.DataFrame, *, metric: str = "accuracy", title: str = "") -> Figure:
    """The measured numbers with their intervals, and beside them, hollow, the published ones.

    One row per learner and one panel per column of the table, both in the order of the frame.

    Args:
        numbers: as `comparison_numbers` returns it.
        metric: of the numbers.
        title: stands above.
    """
    labels = list(dict.fromkeys(numbers["label"]))
    columns = list(dict.fromkeys(numbers["column"]))
    across = 2 if len(columns) > 1 else 1
    down = math.ceil(len(columns) / across) or 1
    names = [wrapped_label(label, 26 if across == 1 else 20) for label in labels]
    heights = [1.05 + 0.75 * name.count("\n") for name in names]  # of the rows
    places = np.cumsum(heights) - np.array(heights) / 2
    figure = figure_sheet(down * (ROW_HEIGHT * sum(heights) + 0.5), title)
    if not len(numbers):
        return say_nothing_measured(figure)
    unit = metric_of(metric).unit
    with_published = bool(numbers["published"].notna().any())
    grid: Any = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, column in zip(grid.flat, columns, strict=False):
        plain_axes(axes)
        part = numbers[numbers["column"] == column]
        y = places[[labels.index(label) for label in part["label"]]]
        _draw_points(axes, part, y, unit, with_published)
        axes.set_yticks(places, names)
        axes.set_ylim(sum(heights), 0)
        axes.tick_params(axis="y", length=0)
        axes.grid(color="0.9", linewidth=0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6 // across, steps=[1, 2, 5, 10]))
        axes.set_title(column, fontsize=TEXT_SIZE)
        axes.set_xlabel(metric_of(metric).typical, fontsize=TEXT_SIZE)
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    if with_published:
        measured = (Line2D([], [], **MEASURED_STYLE), "measured, 95 % interval")
        published = (Line2D([], [], **PUBLISHED_STYLE), "published, as printed")
        add_legend(figure, [measured, published])
    return figure


def smallest_and_largest(numbers: pd.DataFrame) -> str:
    """The smallest and the largest number of one column of a table, with the labels of their rows.

    Args:
        numbers: those lines of `comparison_numbers` that have this column.
    """
    ordered = numbers.sort_values("value")
    metric = metric_of(numbers["metric"].iloc[0])
    ends = ordered.iloc[[0, -1]]
    texts = [
        f"{line['label']} {format(metric.unit * line['value'], metric.form)}"
        for line in runs_of(ends)
    ]
    return f"{numbers['column'].iloc[0]}: from {texts[0]} to {texts[1]}"


def _draw_points(
    axes: Axes, part: pd.DataFrame, y: np.ndarray, unit: int, with_published: bool
) -> None:
    """Draw the numbers of a panel at heights y, and below each the published one."""
    points: dict[str, Any] = {"linestyle": "", "capsize": 1.5}
    published = part[["published", "published_ci95"]].astype(float) * unit
    axes.errorbar(
        part["value"].astype(float) * unit,
        y - 0.12 if with_published else y,
        xerr=interval_arms(part, "value", unit),
        **MEASURED_STYLE,
        **points,
    )
    axes.errorbar(
        published["published"],
        y + 0.22 if with_published else y,
        xerr=published["published_ci95"].fillna(0),
        **PUBLISHED_STYLE,
        **points,
    )


def curves_figure(
    runs: pd.DataFrame,
    *,
    metric: str = "accuracy",
    against: str = "updates",
    title: str = "",
    labels: Sequence[str] = (),
) -> Figure:
    """Validation results over training; a failed run ends in a cross.

    Squared errors are medians over the tasks where all these runs recorded those, else means; the
    axis says which. More than five learners have a panel each.

    Args:
        runs: rows of the frame from `records.load`, with a column `label`; runs of one
            label look alike.
        metric: of validation.
        against: the x axis: `updates`, or `tasks` for training tasks seen.
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
    curves = {label: of_label for label, of_label in curves.items() if of_label}
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
    """The style of each row of a page, the same in all its figures.

    Args:
        runs: of one figure, with `label`.
        labels: of all rows of the page; empty where the figure stands alone.
    """
    all_labels = dict.fromkeys([*labels, *runs["label"]])
    return {label: style(number) for number, label in enumerate(all_labels)}


def _one_panel(
    curves: dict[str, list[_Curve]], looks: Mapping[str, Style], title: str
) -> tuple[Figure, list[Axes]]:
    """All curves in one panel; the legend lists the highest end first."""
    figure = figure_sheet(2.2, title)
    axes = figure.add_subplot()
    any_failed = False
    for label, of_label in curves.items():
        look = looks[label]
        for curve in of_label:
            axes.plot(
                curve.x,
                curve.y,
                **look._asdict(),
                linewidth=0.9,
                markersize=3,
                markevery=max(1, len(curve.x) // 8),  # 8 to 15 markers on a long curve
            )
            if curve.failed:
                axes.plot(curve.x[-1:], curve.y[-1:], "x", color=look.color, markersize=6)
                any_failed = True
    order = sorted(curves, key=lambda label: -max(curve.y[-1] for curve in curves[label]))
    entries = [(legend_line(looks[label]), label) for label in order]
    if any_failed:
        entries.append((Line2D([], [], color="0.3", marker="x", linestyle=""), "failed here"))
    add_legend(figure, entries)
    return figure, [axes]


def _panel_each(
    curves: dict[str, list[_Curve]], looks: Mapping[str, Style], title: str
) -> tuple[Figure, list[Axes]]:
    """A panel for each label: its own curves in colour, those of all others in grey behind them."""
    down = math.ceil(len(curves) / PANELS_ACROSS)
    figure = figure_sheet(0.3 + 0.85 * down, title)
    grid: Any = figure.subplots(down, PANELS_ACROSS, sharex=True, sharey=True, squeeze=False)
    for axes, label in zip(grid.flat, curves, strict=False):
        for other, of_other in curves.items():
            if other != label:
                for curve in of_other:
                    axes.plot(curve.x, curve.y, color="0.85", linewidth=0.6)
        for curve in curves[label]:
            axes.plot(curve.x, curve.y, color=looks[label].color, linewidth=1.1)
            if curve.failed:
                axes.plot(curve.x[-1:], curve.y[-1:], "x", color=looks[label].color, markersize=5)
        axes.set_title(wrapped_label(label, 17), fontsize=TEXT_SIZE, pad=2)
        axes.xaxis.set_major_locator(MaxNLocator(2))
    for number, axes in enumerate(grid.flat):
        axes.set_visible(number < len(curves))
        is_lowest = number + PANELS_ACROSS >= len(curves)  # of its column
        axes.tick_params(labelbottom=is_lowest)
    return figure, list(grid.flat[: len(curves)])


def cost_figure(
    runs: pd.DataFrame, *, metric: str = "accuracy", title: str = "", labels: Sequence[str] = ()
) -> Figure:
    """Test results with their intervals against the time of training, one point per run.

    The time is that of the first of these columns that all runs have: CPU seconds of updates and
    of the stages before, CPU seconds of updates, seconds of updates by the clock (which count the
    machine's other work too), seconds of training by the clock. The axis says which.

    Args:
        runs: rows of the frame from `records.load`, with a column `label`; failed ones
            are left out.
        metric: on the y axis.
        title: stands above.
        labels: see `row_styles`.
    """
    looks = row_styles(runs, labels)
    done = runs[(runs["status"] == "done") & runs.get(metric, pd.Series(dtype=float)).notna()]
    figure = figure_sheet(2.4, title)
    costs = [cpu_cost(run) for run in runs_of(done)]
    cpu_seconds = [np.nan if cost.unknown else cost.updates + cost.stages for cost in costs]
    done = done.assign(cpu_seconds=np.array(cpu_seconds, dtype=float))
    has_stages = any(stages_of(run) for run in runs_of(done))
    columns = [*SECONDS] if has_stages else [*SECONDS][1:]
    column = next((name for name in columns if done[name].notna().all()), "train_seconds")
    done = done[done[column].notna()].sort_values(metric, ascending=False, kind="stable")
    if not len(done):
        return say_nothing_measured(figure)
    axes = figure.add_subplot()
    unit = metric_of(metric).unit
    for run in runs_of(done):
        ci95 = run[f"{metric}_ci95"]
        if pd.isna(ci95) or is_error(metric):  # a mean squared error has no interval
            ci95 = 0
        axes.errorbar(
            run[column],
            unit * run[metric],
            yerr=unit * ci95,
            color=looks[run["label"]].color,
            marker=looks[run["label"]].marker,
            markersize=3.5,
            elinewidth=0.8,
        )
    plain_axes(axes)
    axes.grid(color="0.9", linewidth=0.5)
    _scale_seconds(axes, done[column].astype(float))
    words = SECONDS[column]
    if has_stages and column != "cpu_seconds":
        words += ", without the stages before"
    axes.set_xlabel(f"{textwrap.fill(words, 52)}\n{_machines(done)}", fontsize=TEXT_SIZE)
    if is_error(metric):
        axes.set_yscale("log")
    axes.set_ylabel(f"test: {metric_of(metric).mean}", fontsize=TEXT_SIZE)
    order = dict.fromkeys(done["label"])
    markers = [legend_line(looks[label]._replace(linestyle="")) for label in order]
    add_legend(figure, list(zip(markers, order, strict=True)))
    return figure


def _scale_seconds(axes: Axes, seconds: pd.Series) -> None:
    """Give the x axis a logarithmic scale, with a place for 0 where some run has 0 seconds."""
    positive = seconds[seconds > 0]
    if len(positive) and len(positive) == len(seconds):
        axes.set_xscale("log")
    elif len(positive):
        least = 10 ** np.floor(np.log10(positive.min()))
        axes.set_xscale("symlog", linthresh=least, linscale=0.4)


def _machines(runs: pd.DataFrame) -> str:
    """The machine that the runs were made on, with its threads, or how many there were."""
    names = runs["device_name"].fillna(runs["device"]).fillna("a machine not known").map(str)
    threads = runs["threads"].astype(object).map(", {} threads".format, na_action="ignore")
    machines = (names + threads.fillna("")).unique()
    if len(machines) == 1:
        return textwrap.fill(f"on {machines[0]}", 52)
    return textwrap.fill(f"on {len(machines)} different machines or numbers of threads", 52)


def _listed(run: RecordRow, name: str) -> list[Any]:
    """A record's list with one entry per validation; empty where it has none."""
    return run[name] if isinstance(run[name], list) else []


def _has_medians(run: RecordRow) -> bool:
    """Whether a run recorded the median errors of its validations, or was never validated."""
    curve, medians = _listed(run, "validation"), _listed(run, "validation_median")
    return not curve or (len(medians) == len(curve) and any(m is not None for m in medians))


def _curve(run: RecordRow, unit: int, against: str, medians: bool) -> tuple[np.ndarray, np.ndarray]:
    """The points of a learning curve, without those that are not finite: x (n,), y (n,)."""
    x, y = np.array(_listed(run, "validation"), dtype=float).reshape(-1, 2).T
    if medians:
        y = np.array(_listed(run, "validation_median")[: len(x)], dtype=float)
    if against == "tasks":
        seen, updates = run["tasks_seen"], run["updates"]
        if pd.isna(seen) or pd.isna(updates) or not updates:
            return x[:0], y[:0]
        x = x * (seen / updates)
    finite = np.isfinite(x) & np.isfinite(y)
    return x[finite], unit * y[finite]

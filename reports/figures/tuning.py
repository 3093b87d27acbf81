"""The figure of a search for settings: each trial's validation by each setting's value."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from zoo.reports.figures.style import COLOURS, TEXT_SIZE, figure_sheet, plain_axes
from zoo.reports.metrics import is_error, metric_of
from zoo.reports.tables.tuning import ranked

PANELS_A_LINE = 2
PANEL_HEIGHT = 1.7  # inches
FEW_VALUES = 5  # of a setting: up to so many, each has a tick


def tuning_figure(
    trials: pd.DataFrame, title: str, judged_by: str, settings: Sequence[str], log: Sequence[str]
) -> Figure:
    """A panel for each setting.

    Args:
        trials: as `tuning_table` takes them.
        title: learner and benchmark.
        judged_by: the metric of the validations.
        settings: that were searched.
        log: those of them that have a logarithmic axis.
    """
    lines = math.ceil(len(settings) / PANELS_A_LINE)
    figure = figure_sheet(PANEL_HEIGHT * lines, title)
    panels = figure.subplots(lines, min(len(settings), PANELS_A_LINE), sharey=True, squeeze=False)
    shown = ranked(trials, judged_by)
    for number, axes in enumerate(panels.flat):
        if number >= len(settings):
            axes.set_visible(False)
            continue
        _panel(axes, shown, settings[number], judged_by, settings[number] in log)
        if number % PANELS_A_LINE == 0:
            label = f"validation: {metric_of(judged_by).typical}"
            axes.set_ylabel(label, fontsize=TEXT_SIZE)
    return figure


def _panel(axes: Axes, shown: pd.DataFrame, name: str, judged_by: str, log: bool) -> None:
    """One setting: whole trials filled, stopped ones hollow, the best in another colour."""
    unit = metric_of(judged_by).unit
    values = shown[name]
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        values = values.astype(str)
    for stopped, part in shown.groupby("stopped"):
        axes.scatter(
            values[part.index],
            unit * part["validation"],
            s=12,
            facecolors="none" if stopped else COLOURS[0],
            edgecolors=COLOURS[0],
            linewidths=0.8,
        )
    if len(shown) and not shown["stopped"].iloc[0]:
        best = shown.index[0]
        axes.scatter(values[[best]], [unit * shown.loc[best, "validation"]], s=22, c=COLOURS[1])
    if log:
        axes.set_xscale("log")
        wide = values.max() > 30 * values.min()
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif pd.api.types.is_numeric_dtype(values) and values.nunique() <= FEW_VALUES:
        axes.set_xticks(sorted(values.unique()))
    if is_error(judged_by):
        axes.set_yscale("log")
    axes.set_xlabel(name, fontsize=TEXT_SIZE)
    plain_axes(axes)

"""The figure of a study: the difference of each pair on each kind of tasks."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from zoo.reports.estimates import value_if_equal
from zoo.reports.figures.style import interval_arms
from zoo.reports.metrics import is_error, metric_of
from zoo.reports.tables.cells import RecordRow, runs_of

PAIR_MARKERS = "osD^v"


def study_figure(numbers: pd.DataFrame, title: str) -> Figure:
    """The differences with their intervals, one panel per metric.

    Args:
        numbers: as `study_numbers` returns it.
        title: stands above.
    """
    shown = numbers.dropna(subset=["difference"])
    metrics = list(dict.fromkeys(shown["metric"])) or ["accuracy"]
    figure = Figure(figsize=(3.6 * len(metrics), 3.0), layout="constrained", dpi=150)
    pairs = list(dict.fromkeys(shown["pair"]))
    for panel, metric in enumerate(metrics, 1):
        axes = figure.add_subplot(1, len(metrics), panel)
        of_metric = shown[shown["metric"] == metric]
        tasks = list(dict.fromkeys(of_metric["tasks"]))
        unit = metric_of(metric).unit
        axes.axhline(value_if_equal(metric), color="0.6", linewidth=0.8)
        for number, pair in enumerate(pairs):
            of_pair = of_metric[of_metric["pair"] == pair]
            shift = 0.12 * (number - (len(pairs) - 1) / 2)
            places = np.array([tasks.index(name) for name in of_pair["tasks"]], dtype=float)
            axes.errorbar(
                places + shift,
                unit * of_pair["difference"],
                interval_arms(of_pair, "difference", unit),
                fmt=PAIR_MARKERS[number % len(PAIR_MARKERS)],
                markersize=4,
                capsize=2,
                linewidth=1,
                label=pair,
                color=f"C{number}",
            )
        axes.set_xticks(range(len(tasks)), tasks, rotation=20, ha="right", fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
        if is_error(metric):
            axes.set_yscale("log")
            lowest, highest = axes.get_ylim()
            if highest < 10 * lowest:  # a log axis alone would label the one power of ten in it
                axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylabel("error, times that of the first: below 1 is better", fontsize=7)
        else:
            axes.set_ylabel("difference, points of accuracy", fontsize=7)
        if len(pairs) > 1:
            axes.legend(fontsize=6, frameon=False)
    figure.suptitle(textwrap.fill(title, 50 * len(metrics)), fontsize=8)
    return figure


def study_caption(numbers: pd.DataFrame, title: str) -> str:
    """What `study_figure` shows, in a sentence for those who cannot see it too."""
    shown = numbers.dropna(subset=["difference"])
    if shown.empty:
        return f"{title}: no pair is measured yet"
    ranges = []
    for metric in dict.fromkeys(shown["metric"]):
        ordered = shown[shown["metric"] == metric].sort_values("difference")
        smallest, largest = map(_difference_text, runs_of(ordered.iloc[[0, -1]]))
        ranges.append(f"from {smallest} to {largest}")
    what = "the second of each pair against the first, with 95 % intervals"
    return f"{title}: {what}, {'; '.join(ranges)}"


def _difference_text(line: RecordRow) -> str:
    """The difference or the ratio of a pair, and of which pair it is."""
    if is_error(line["metric"]):
        number = f"×{line['difference']:.2f}"
    else:
        number = f"{metric_of(line['metric']).unit * line['difference']:+.1f} points"
    return f"{number} ({line['pair']}, {line['tasks']})"

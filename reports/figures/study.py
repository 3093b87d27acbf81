"""The figure of a study: what each pair gained, tasks by tasks."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from zoo.reports.estimates import equality
from zoo.reports.figures.style import interval_arms
from zoo.reports.metrics import is_error, metric_of


def study_figure(found: pd.DataFrame, title: str) -> Figure:
    """The differences with their intervals, a panel for each metric."""
    shown = found.dropna(subset=["difference"])
    metrics = list(dict.fromkeys(shown["metric"])) or ["accuracy"]
    drawing = Figure(figsize=(3.6 * len(metrics), 3.0), layout="constrained", dpi=150)
    pairs = list(dict.fromkeys(shown["pair"]))
    for at, metric in enumerate(metrics):
        axes, part = drawing.add_subplot(1, len(metrics), at + 1), shown[shown["metric"] == metric]
        tasks, unit = list(dict.fromkeys(part["tasks"])), metric_of(metric).unit
        axes.axhline(equality(metric), color="0.6", linewidth=0.8)
        for number, pair in enumerate(pairs):
            own = part[part["pair"] == pair]
            shift = 0.12 * (number - (len(pairs) - 1) / 2)
            places = np.array([tasks.index(name) for name in own["tasks"]], dtype=float) + shift
            axes.errorbar(
                places, unit * own["difference"], interval_arms(own, "difference", unit),
                fmt="osD^v"[number % 5], markersize=4, capsize=2, linewidth=1, label=pair,
                color=f"C{number}",
            )  # fmt: skip
        axes.set_xticks(range(len(tasks)), tasks, rotation=20, ha="right", fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
        if is_error(metric):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylabel("error, times that of the first: below 1 is better", fontsize=7)
        else:
            axes.set_ylabel("difference, points of accuracy", fontsize=7)
        if len(pairs) > 1:
            axes.legend(fontsize=6, frameon=False)
    drawing.suptitle(textwrap.fill(title, 50 * len(metrics)), fontsize=8)
    return drawing

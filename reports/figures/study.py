"""The figure of a study: what each pair gained, tasks by tasks."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from zoo.reports.metrics import METRICS

FAR = 50  # times what three in four intervals are below, from where one is off a figure's scale


def study_figure(found: pd.DataFrame, title: str) -> Figure:
    """The differences with their intervals, a panel for each metric."""
    shown = found.dropna(subset=["difference"])
    metrics = list(dict.fromkeys(shown["metric"])) or ["accuracy"]
    drawing = Figure(figsize=(3.6 * len(metrics), 3.0), layout="constrained", dpi=150)
    pairs = list(dict.fromkeys(shown["pair"]))
    for at, metric in enumerate(metrics):
        axes, part = drawing.add_subplot(1, len(metrics), at + 1), shown[shown["metric"] == metric]
        tasks, unit = list(dict.fromkeys(part["tasks"])), METRICS[metric].unit
        axes.axhline(0, color="0.6", linewidth=0.8)
        for number, pair in enumerate(pairs):
            own = part[part["pair"] == pair]
            shift = 0.12 * (number - (len(pairs) - 1) / 2)
            places = np.array([tasks.index(name) for name in own["tasks"]], dtype=float) + shift
            axes.errorbar(
                places, unit * own["difference"], unit * own["difference_ci95"],
                fmt="osD^v"[number % 5], markersize=4, capsize=2, linewidth=1, label=pair,
                color=f"C{number}",
            )  # fmt: skip
        reach = part["difference"].abs() + part["difference_ci95"].fillna(0)
        far = reach > FAR * reach.quantile(0.75, "lower")
        if far.any():  # so that one does not hide the others
            top = 1.15 * unit * reach[~far].max()
            axes.set_ylim(-top, top)
            for _, line in part[far].iterrows():
                number, up = pairs.index(line["pair"]), line["difference"] > 0
                place = tasks.index(line["tasks"]) + 0.12 * (number - (len(pairs) - 1) / 2)
                axes.annotate(
                    "off the scale", (place, top if up else -top), (0, -4 if up else 4),
                    textcoords="offset points", fontsize=6, rotation=90, ha="center",
                    va="top" if up else "bottom", color=f"C{number}",
                )  # fmt: skip
        axes.set_xticks(range(len(tasks)), tasks, rotation=20, ha="right", fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
        points = "points of accuracy" if metric == "accuracy" else "squared error, less is better"
        axes.set_ylabel(f"difference, {points}", fontsize=7)
        if len(pairs) > 1:
            axes.legend(fontsize=6, frameon=False)
    drawing.suptitle(textwrap.fill(title, 50 * len(metrics)), fontsize=8)
    return drawing

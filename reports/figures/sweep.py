"""The figure of a sweep: accuracy over shots and over ways."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from zoo.reports.figures.style import (
    TEXT_SIZE,
    add_legend,
    figure_sheet,
    interval_arms,
    legend_line,
    plain_axes,
    style,
)
from zoo.reports.metrics import metric_of

# Learners are drawn side by side so that their intervals can be seen: factors on the x axis
# between neighbours, and at most between the first and the last.
APART, SPREAD = 1.025, 1.12
CHANCE: dict[str, Any] = {"color": "0.35", "linestyle": ":", "linewidth": 1}


def sweep_figure(numbers: pd.DataFrame, title: str, way: int, shot: int) -> Figure:
    """Two panels: accuracy against shot at one way, and against way at one shot, with chance.

    Args:
        numbers: as `sweep_numbers` returns it.
        title: of the benchmark.
        way: of the upper panel.
        shot: of the lower panel.
    """
    shown = numbers.dropna(subset=["accuracy"])
    learners = list(dict.fromkeys(shown["learner"]))
    figure = figure_sheet(4.2, "")
    upper, lower = figure.subplots(2, 1, sharey=True)
    _panel(upper, shown[shown["way"] == way], "shot", learners)
    _panel(lower, shown[shown["shot"] == shot], "way", learners)
    upper.set_title(f"{title}, {way}-way", fontsize=TEXT_SIZE + 1)
    lower.set_title(f"{title}, {shot}-shot", fontsize=TEXT_SIZE + 1)
    upper.set_xlabel("shot: support images a class", fontsize=TEXT_SIZE)
    lower.set_xlabel("way: classes of an episode", fontsize=TEXT_SIZE)
    for axes in (upper, lower):
        axes.set_ylabel(metric_of("accuracy").name, fontsize=TEXT_SIZE)
    entries = [(legend_line(style(number)), name) for number, name in enumerate(learners)]
    if learners:
        add_legend(figure, [*entries, (Line2D([], [], **CHANCE), "chance")])
    return figure


def _panel(axes: Axes, shown: pd.DataFrame, over: str, learners: list[str]) -> None:
    """One curve per learner, with the same colour and marker in both panels.

    Args:
        axes: to draw in.
        shown: the numbers of this panel.
        over: "shot" or "way", on the x axis.
        learners: of both panels.
    """
    places = sorted(shown[over].unique())
    step = min(APART, SPREAD ** (1 / max(1, len(learners) - 1)))
    for number, learner in enumerate(learners):
        of_learner = shown[shown["learner"] == learner].sort_values(over)
        if of_learner.empty:
            continue
        factor = step ** (number - (len(learners) - 1) / 2)
        axes.errorbar(
            of_learner[over].astype(float) * factor,
            100 * of_learner["accuracy"],
            interval_arms(of_learner, "accuracy", 100),
            markersize=3.5,
            linewidth=1,
            elinewidth=0.8,
            capsize=1.5,
            **style(number)._asdict(),
        )
    if places:
        axes.set_xscale("log")
        axes.set_xticks(places, [str(place) for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
        between = np.geomspace(places[0], places[-1])
        chance = 100 / (between if over == "way" else np.full(50, shown["way"].iloc[0]))
        axes.plot(between, chance, **CHANCE)
    plain_axes(axes)
    axes.grid(color="0.9", linewidth=0.5)


def sweep_caption(numbers: pd.DataFrame, title: str, way: int, shot: int) -> str:
    """What `sweep_figure` shows, in a sentence for those who cannot see it too."""
    shown = numbers.dropna(subset=["accuracy"])
    shown = shown[(shown["way"] == way) | (shown["shot"] == shot)]
    words = [f"{title}: accuracy over shots at {way}-way, and over ways at {shot}-shot"]
    for (n, k), part in shown.groupby(["way", "shot"]):
        low, high = 100 * part["accuracy"].min(), 100 * part["accuracy"].max()
        words.append(f"{n}-way {k}-shot {low:.0f} to {high:.0f} %")
    return "; ".join(words)

"""The figure of a sweep: accuracy over shots and over ways."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from zoo.reports.figures.style import interval_arms, style
from zoo.reports.metrics import metric_of

APART, SPREAD = 1.025, 1.12  # factors between places: of neighbours, of first and last at most


def sweep_figure(found: pd.DataFrame, title: str, way: int, shot: int) -> Figure:
    """Accuracy against shot at one way, and against way at one shot, with intervals and chance.

    Two columns wide: 7 inches.

    Args:
        found: as `sweep_numbers` returns it.
        title: of the benchmark.
        way: of the left panel.
        shot: of the right one.
    """
    shown = found.dropna(subset=["accuracy"])
    learners = list(dict.fromkeys(shown["learner"]))
    rows = -(-(len(learners) + 1) // 4)
    drawing = Figure(figsize=(7, 2.7 + 0.17 * rows), layout="constrained", dpi=200)
    left, right = drawing.subplots(1, 2, sharey=True)
    _panel(left, shown[shown["way"] == way], "shot", learners)
    _panel(right, shown[shown["shot"] == shot], "way", learners)
    left.set_title(f"{title}, {way}-way", fontsize=8)
    right.set_title(f"{title}, {shot}-shot", fontsize=8)
    left.set_xlabel("shot: support images a class", fontsize=8)
    right.set_xlabel("way: classes of an episode", fontsize=8)
    left.set_ylabel(metric_of("accuracy").name, fontsize=8)
    handles = {name: handle for axes in (left, right) for handle, name in _legend(axes)}
    handles = {name: handles[name] for name in (*learners, "chance") if name in handles}
    drawing.legend(
        handles.values(), handles, loc="outside lower center", ncols=4, fontsize=7, frameon=False
    )
    return drawing


def _panel(axes: Axes, shown: pd.DataFrame, over: str, learners: list[str]) -> None:
    """One curve a learner, in its colour and marker whatever the panel."""
    places = sorted(shown[over].unique())
    step = min(APART, SPREAD ** (1 / max(1, len(learners) - 1)))  # so that intervals can be seen
    for number, learner in enumerate(learners):
        own = shown[shown["learner"] == learner].sort_values(over)
        if own.empty:
            continue
        apart = step ** (number - (len(learners) - 1) / 2)
        axes.errorbar(
            own[over].astype(float) * apart, 100 * own["accuracy"],
            interval_arms(own, "accuracy", 100), label=learner, markersize=3.5, linewidth=1,
            elinewidth=0.8, capsize=1.5,
            **style(number)._asdict(),
        )  # fmt: skip
    if places:
        axes.set_xscale("log")
        axes.set_xticks(places, [str(place) for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
        between = np.geomspace(places[0], places[-1])
        chance = 100 / (between if over == "way" else np.full(50, shown["way"].iloc[0]))
        axes.plot(between, chance, color="0.35", linestyle=":", linewidth=1, label="chance")
    axes.tick_params(labelsize=7)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def _legend(axes: Axes) -> list[tuple[Any, str]]:
    return list(zip(*axes.get_legend_handles_labels(), strict=True))

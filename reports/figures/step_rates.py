"""The figure of the learning rates that explain the inner steps of trained learners."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoo.reports.figures.style import (
    TEXT_SIZE,
    add_legend,
    figure_sheet,
    legend_line,
    plain_axes,
    style,
)

NUMBERS = ["rate", "explained"]


def step_rates_figure(rates: pd.DataFrame) -> Figure:
    """Two panels over the inner steps: the rate, and below it the share of a step that it explains.

    Both are of all layers together.

    Args:
        rates: as `step_rates_table` takes them.
    """
    figure = figure_sheet(3.4, "")
    upper, lower = figure.subplots(2, 1, sharex=True)
    of_all_layers = rates[rates["layer"] == ""]
    labels = list(dict.fromkeys(of_all_layers["label"]))
    for number, label in enumerate(labels):
        of_label = of_all_layers[of_all_layers["label"] == label]
        of_label = of_label.groupby("step", as_index=False)[NUMBERS].mean()
        look = style(number)._asdict() | {"markersize": 3, "linewidth": 0.9}
        upper.plot(of_label["step"], of_label["rate"], **look)
        lower.plot(of_label["step"], 100 * of_label["explained"], **look)
    upper.set_ylabel("rate", fontsize=TEXT_SIZE)
    lower.set_ylabel("explained, %", fontsize=TEXT_SIZE)
    lower.set_xlabel("inner step", fontsize=TEXT_SIZE)
    lower.set_ylim(0, 103)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (upper, lower):
        plain_axes(axes)
        axes.grid(color="0.9", linewidth=0.5)
    add_legend(figure, [(legend_line(style(n)), label) for n, label in enumerate(labels)])
    return figure

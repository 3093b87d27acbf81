"""What is gained and lost by rejecting the predictions that a learner is least sure of."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from zoo.reports.figures.style import (
    SMALL_MARKS,
    TEXT_SIZE,
    add_legend,
    figure_sheet,
    legend_line,
    plain_axes,
    style,
)


def rejection_figure(
    curve: Sequence[Sequence[float | None]], threshold: float | None = None
) -> Figure:
    """Accuracy on the kept photos, and share of strangers rejected, against the share kept.

    Strangers are photos of other classes than the learner was given.

    Args:
        curve: rows of threshold, share kept, accuracy on those, share of strangers rejected.
        threshold: that was asked for; a vertical line marks it.
    """
    figure = figure_sheet(2.4, "")
    axes = figure.subplots()
    plain_axes(axes)
    kept = [100 * float(row[1] or 0) for row in curve]
    names = ("right, of the photos kept", "rejected, of photos of other classes")
    for number, name in enumerate(names):
        shares = [row[2 + number] for row in curve]
        values = [math.nan if share is None else 100 * share for share in shares]
        axes.plot(kept, values, label=name, **style(number)._asdict(), **SMALL_MARKS)
    if threshold is not None:
        nearest = min(curve, key=lambda row: abs(float(row[0] or 0) - threshold))
        axes.axvline(100 * float(nearest[1] or 0), color="0.5", linewidth=0.8, linestyle=":")
    axes.set_xlim(101, min(kept) - 1)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("photos kept in %", fontsize=TEXT_SIZE)
    axes.set_ylabel("share in %", fontsize=TEXT_SIZE)
    add_legend(figure, [(legend_line(style(number)), name) for number, name in enumerate(names)])
    return figure

"""What is gained and lost by rejecting the predictions of which a learner is least sure."""

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
    """Accuracy of what is kept, and share of strangers rejected, against the share that is kept.

    Args:
        curve: rows of threshold, share kept, share right of those, share of strangers rejected.
        threshold: that was asked for; marked.
    """
    figure = figure_sheet(2.4, "")
    axes = figure.subplots()
    plain_axes(axes)
    kept = [100 * float(row[1] or 0) for row in curve]
    names = ("right, of the photos kept", "rejected, of photos of other classes")
    for number, name in enumerate(names):
        values = [math.nan if row[2 + number] is None else 100 * row[2 + number] for row in curve]  # type: ignore[operator]
        look = style(number)
        axes.plot(
            kept, values, color=look.color, marker=look.marker, linestyle=look.linestyle,
            label=name, **SMALL_MARKS,
        )  # fmt: skip
    if threshold is not None:
        at = min(curve, key=lambda row: abs(float(row[0] or 0) - threshold))
        axes.axvline(100 * float(at[1] or 0), color="0.5", linewidth=0.8, linestyle=":")
    axes.set_xlim(101, min(kept) - 1)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("photos kept in %", fontsize=TEXT_SIZE)
    axes.set_ylabel("share in %", fontsize=TEXT_SIZE)
    add_legend(figure, [(legend_line(style(number)), name) for number, name in enumerate(names)])
    return figure

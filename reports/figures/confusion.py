"""How often each class was taken for each other, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from zoo.reports.figures.style import DPI, TEXT_SIZE

CELL = 0.26  # inches
LONGEST = 24  # characters of a class's name


def confusion_figure(counts: pd.DataFrame) -> Figure:
    """Counts, a row a class and a column a prediction, dark where many of the class are.

    Args:
        counts: as ``zoo predict`` has them.
    """
    rows, columns = counts.shape
    above, beside = ([shortened(str(name)) for name in names] for names in (counts, counts.index))
    label = 0.062 * max(map(len, (*above, *beside)))
    wide, high = CELL * columns + label + 0.3, CELL * rows + label + 0.3
    figure = Figure((wide, high), dpi=DPI, facecolor="white")
    axes = figure.add_axes(
        (
            (label + 0.2) / wide,
            0.1 / high,
            CELL * columns / wide,
            CELL * rows / high,
        )
    )
    shares = (counts.T / counts.sum(axis=1)).T.to_numpy()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(counts.shape):
        value = counts.iloc[row, column]
        if value:
            dark = shares[row, column] > 0.5
            axes.text(
                column,
                row,
                str(value),
                ha="center",
                va="center",
                fontsize=TEXT_SIZE,
                color="white" if dark else "black",
            )
    axes.xaxis.tick_top()
    axes.set_xticks(range(columns), above, rotation=90)
    axes.set_yticks(range(rows), beside)
    axes.tick_params(labelsize=TEXT_SIZE, length=0)
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
    return figure


def shortened(name: str) -> str:
    """A name that is not too long for a figure; its end tells more than its middle."""
    if len(name) <= LONGEST:
        return name
    half = (LONGEST - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
